"""The table of failures, and what the engine's failures mean."""

import json
import math
from typing import Any

import pytest

from cluster.core.accounting import Outcome
from cluster.core.limits import LimitName, Refusal
from cluster.core.request import InvalidRequest
from cluster.gateway.engine_errors import judge_error, judge_response
from cluster.gateway.http_errors import (
    FORMS,
    BadRequest,
    EngineFailed,
    HarmonyFault,
    LimitReached,
    Overloaded,
    RequestFailed,
    failure_of,
)

FAILED = [outcome for outcome in Outcome if outcome is not Outcome.COMPLETED]


@pytest.mark.parametrize("outcome", FAILED)
def test_every_failed_outcome_has_a_form(outcome: Outcome) -> None:
    """No outcome but `completed` is without a status and a type."""
    assert 400 <= FORMS[outcome].status < 600
    assert FORMS[outcome].type


def test_every_class_of_failure_has_an_outcome_of_its_own() -> None:
    """Only the root and `Internal` are `internal`."""
    names = [kind.__name__ for kind in RequestFailed.__subclasses__() if kind.outcome is Outcome.INTERNAL]
    assert sorted(names) == ["Internal", "LimitReached"]  # LimitReached decides when it is made


def test_the_body_is_openais() -> None:
    """All four members are there, null where there is nothing to say."""
    body = json.loads(BadRequest("No.", param="n").body)
    assert body == {"error": {"message": "No.", "type": "invalid_request_error", "param": "n", "code": None}}


@pytest.mark.parametrize(("wait_s", "seconds", "milliseconds"), [
    (0.012, b"1", b"12"), (1.0, b"1", b"1000"), (1.2, b"2", b"1200"), (119.5, b"120", b"119500"),
    (600.0, b"120", b"120000"), (0.0, b"1", b"1"),
])  # fmt: skip
def test_retry_after_is_what_openais_clients_obey(wait_s: float, seconds: bytes, milliseconds: bytes) -> None:
    """``retry-after`` is a whole number from 1 to 120; a client told to wait longer gives up."""
    headers = dict(Overloaded("Busy.", retry_after_s=wait_s).retry_headers)
    assert headers == {b"retry-after": seconds, b"retry-after-ms": milliseconds}


@pytest.mark.parametrize(("limit", "outcome", "code"), [
    ("requests", Outcome.RATE_LIMITED, "rate_limit_exceeded"),
    ("tokens", Outcome.RATE_LIMITED, "rate_limit_exceeded"),
    ("concurrent", Outcome.RATE_LIMITED, "rate_limit_exceeded"),
    ("budget", Outcome.BUDGET_SPENT, "insufficient_quota"),
])  # fmt: skip
def test_a_refusal_names_its_limit(limit: LimitName, outcome: Outcome, code: str) -> None:
    """A rate is worth another try; a spent budget is not, and the client is told so."""
    failure = LimitReached(Refusal(limit, "tenant", 2.0, None, None))
    assert (failure.outcome, failure.status, failure.error["code"]) == (outcome, 429, code)
    assert (dict(failure.retry_headers).get(b"x-should-retry") == b"false") == (limit == "budget")


def test_a_request_larger_than_its_limit_is_not_worth_a_retry() -> None:
    """A wait without end is told as such."""
    assert LimitReached(Refusal("tokens", "key", math.inf, None, None)).retry_headers == [
        (b"x-should-retry", b"false")
    ]


def test_errors_of_other_parts_become_failures() -> None:
    """The parser's errors keep their words; anything else is `internal`."""
    wrong = failure_of(InvalidRequest("No.", param="p", code="c", status=415))
    assert (wrong.status, wrong.error["param"], wrong.error["code"]) == (415, "p", "c")
    unforeseen = failure_of(ZeroDivisionError("SECRET"))
    assert (unforeseen.status, unforeseen.outcome) == (500, Outcome.INTERNAL)
    assert b"SECRET" not in unforeseen.body


def vllm(message: str, *, code: int = 400, param: Any = None, kind: str = "BadRequestError") -> bytes:
    """Return vLLM's error body."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


CONTEXT = [
    "Input length (9068) exceeds model's maximum context length (4096).",
    "The engine prompt length 9068 exceeds the max_model_len 4096. Please reduce prompt.",
    "This model's maximum context length is 4096 tokens. However, you requested 10 output tokens and your "
    "prompt contains 9068 input tokens, for a total of 9078 tokens. Please reduce the length.",
    "This model's maximum context length is 4096 tokens. However, you requested 10 output tokens and your "
    "prompt contains 99999 characters (more than 81920, which is the upper bound for 4086 input tokens).",
]  # fmt: skip


@pytest.mark.parametrize("message", CONTEXT)
def test_a_prompt_that_is_too_long_has_openais_code(message: str) -> None:
    """All of vLLM's ways of saying it become ``context_length_exceeded``."""
    failure = judge_response(400, "application/json", vllm(message))
    assert (failure.status, failure.error["code"]) == (400, "context_length_exceeded")
    assert "4096 tokens" in failure.message
    assert ("9068 tokens" in failure.message) == ("9068" in message)


@pytest.mark.parametrize(("body", "param"), [
    (vllm("[{'loc': ('body','temperature'), 'input': 'SECRET'}]", param="body.temperature"), "temperature"),
    (vllm("SECRET is bad", param="tools.0.name"), "tools.0.name"),
    (vllm("SECRET", param="SECRET value!"), None),
    (vllm("Invalid grammar specification: 'SECRET'"), None), (b'{"detail":"SECRET"}', None), (b"[1]", None),
])  # fmt: skip
def test_the_engines_words_never_reach_a_client(body: bytes, param: str | None) -> None:
    """A 400 of the engine's becomes our own sentence; only a parameter's name is taken over."""
    failure = judge_response(400, "application/json", body)
    assert failure.error["type"] == "invalid_request_error"
    assert failure.error["param"] == param
    assert b"SECRET" not in failure.body


@pytest.mark.parametrize("message", [
    'unexpected tokens remaining in message header: Some("x")', "channel marker present but no channel value",
    "Unexpected token 5 while expecting start token 200006", "could not decode header", "Unknown role: x",
    "Unknown channel: x",
])  # fmt: skip
@pytest.mark.parametrize("status", [400, 500])
def test_harmony_errors_are_told_apart(message: str, status: int) -> None:
    """A parse fault is the model's, whatever status it wears."""
    assert isinstance(judge_response(status, "application/json", vllm(message, code=status)), HarmonyFault)


def test_a_stream_error_is_judged_by_its_code() -> None:
    """An event has no status; its number stands in."""
    assert isinstance(judge_error({"message": "m", "code": 503}), Overloaded)
    assert isinstance(judge_error({"message": "m", "code": 400}), BadRequest)
    assert type(judge_error({"message": "m", "code": "odd"})) is EngineFailed
    assert type(judge_error({})) is EngineFailed


def test_a_replica_whose_engine_died_is_worth_another_try() -> None:
    """VLLM answers 500 while its engine process is gone; another replica can serve the request."""
    failure = judge_response(500, "application/json", vllm("EngineCore encountered an issue.", code=500))
    assert isinstance(failure, EngineFailed)
    assert failure.retry == "engine_died"
