"""Records and runs for the tests of what is made of them."""

from typing import Any

from loadtest.live.plan import Plan
from loadtest.live.records import Record
from loadtest.live.results import Run


def record(**changes: Any) -> Record:
    """Return a good answer of low effort: first token after 0.1 s, nine gaps of 10 ms, 1 s in all."""
    given: dict[str, Any] = {
        "at_s": 1000.0,
        "kind": "chat",
        "effort": "low",
        "turn": 1,
        "users": 1,
        "outcome": "ok",
        "reason": "",
        "status": 200,
        "request_id": "",
        "fingerprint": "vllm",
        "ttft_s": 0.1,
        "answer_s": 0.2,
        "e2e_s": 1.0,
        "prompt_tokens": 50,
        "output_tokens": 10,
        "reasoning_tokens": 3,
        "chunks": 10,
        "gap_sum_s": 0.09,
        "gaps": {465: 9},
    }
    return Record(**{**given, **changes})


def refused(**changes: Any) -> Record:
    """Return a request that was refused."""
    bad = {"outcome": "refused", "reason": "server_is_overloaded", "status": 503, "e2e_s": 0.01}
    nothing: dict[str, Any] = {
        "ttft_s": None,
        "answer_s": None,
        "output_tokens": 0,
        "chunks": 0,
        "gap_sum_s": 0.0,
        "gaps": {},
    }
    return record(**{**bad, **nothing, **changes})


def run(records: list[Record], **changes: Any) -> Run:
    """Return a run of the default plan."""
    facts = {"at": "2026-11-24T00:00:00+00:00", "target": "http://127.0.0.1/v1", "machine": "a machine"}
    given: dict[str, Any] = {
        "about": facts,
        "plan": Plan(),
        "objectives": None,
        "records": records,
        "samples": [],
    }
    return Run(**{**given, **changes})
