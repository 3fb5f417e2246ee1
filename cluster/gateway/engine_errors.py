"""What an engine's failure means. Pure: status, type and text in, one failure of ours out.

HAProxy and Serve answer in plain text, vLLM in JSON with numbers for codes, FastAPI with ``{"detail"}``;
pydantic's words repeat the client's input, and Harmony errors the model's hidden text. So nothing of a
message is passed on but numbers and parameter names.
"""

import math
import re
from typing import Any

import orjson

from cluster.gateway.http_errors import BadRequest, EngineFailed, HarmonyFault, Overloaded, RequestFailed

_HARMONY = re.compile(
    r"unexpected tokens remaining|channel marker present|expecting start token|could not decode header"
    r"|Unknown role|Unknown channel|Harmony",
    re.IGNORECASE,
)
_DEAD = re.compile(r"EngineCore|EngineDead|engine is dead", re.IGNORECASE)
_CONTEXT = (
    re.compile(r"Input length \((?P<used>\d+)\) exceeds model's maximum context length \((?P<limit>\d+)\)"),
    re.compile(r"prompt length (?P<used>\d+) exceeds the max_model_len (?P<limit>\d+)"),
    re.compile(
        r"maximum context length is (?P<limit>\d+) tokens.*?"
        r"contains (?:at least )?(?P<used>\d+) input tokens",
        re.DOTALL,
    ),
    re.compile(r"maximum context length is (?P<limit>\d+) tokens"),
)
_GRAMMAR = re.compile(r"grammar|json_schema|structured output|xgrammar|regex", re.IGNORECASE)
_PARAM = re.compile(r"(?:body\.)?([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)")

_NO_REPLICA_WAIT_S = 2.0
"""A replica that died or a router that restarts is replaced in seconds; a load of weights is minutes."""


def no_replica() -> EngineFailed:
    """Return the failure of an engine that cannot be reached."""
    return EngineFailed(
        "The model is not available at the moment. Please try again.",
        retry="connect",
        status=503,
        code="server_is_overloaded",
        retry_after_s=_NO_REPLICA_WAIT_S,
    )


def connection_lost() -> EngineFailed:
    """Return the failure of an engine whose connection broke before the head of its answer."""
    return EngineFailed("The connection to the model was lost. Please try again.", retry="reset")


def answer_cut() -> EngineFailed:
    """Return the failure of an answer that ended too early: most likely its replica is lost."""
    return EngineFailed("The connection to the model was lost. Please try again.", retry="cut")


def answer_aborted() -> EngineFailed:
    """Return the failure of an answer that the engine gave up: it shuts down, and other replicas do not."""
    return EngineFailed("The model broke its answer off. Please try again.", retry="aborted")


def poisonous(refused_s: float) -> EngineFailed:
    """Return the failure of a request that replicas die of."""
    return EngineFailed(
        "Two replicas of the model were lost while they worked on this very request, so it is refused for "
        f"{refused_s / 60:g} minutes. Change the request, or ask your administrator.",
        retry_after_s=math.inf,
    )


def judge_response(status: int, content_type: str, body: bytes) -> RequestFailed:
    """Return what a response other than 200 means, by its status, media type and body."""
    error = _error_object(body) if content_type.startswith("application/json") else None
    if error is not None:
        return judge_error(error, status=status)
    if status == 404:  # HAProxy knows no such pool: it is not deployed yet, or no longer
        failure = no_replica()
        failure.retry = None
        return failure
    if status in (502, 503, 504):
        failure = no_replica()
        failure.retry = "unavailable"
        return failure
    if status == 500:  # HAProxy in Serve turns its own 502, 503 and 504 into this
        return EngineFailed("The model failed. Please try again.", retry="proxy_error")
    return EngineFailed("The model failed. Please try again.")


def judge_error(error: Any, *, status: int | None = None) -> RequestFailed:
    """Return what an engine's error means, from a response or a stream's event.

    What is no object, as it should be, tells no more than that.
    """
    error = error if isinstance(error, dict) else {}
    text = str(error.get("message") or "")
    code = status if status is not None else _number(error.get("code"))
    if _HARMONY.search(text):
        return HarmonyFault("parse")
    if code in (400, 422):
        return _client_error(text, error.get("param"))
    if code == 503:
        return _QueueFull()
    if _DEAD.search(text):
        return EngineFailed("The model failed. Please try again.", retry="engine_died")
    if code in (502, 504):
        return EngineFailed("The model failed. Please try again.", retry="unavailable")
    return EngineFailed("The model failed. Please try again.")


class _QueueFull(Overloaded, EngineFailed):
    """The engine's queue is full; another replica may have room."""

    def __init__(self) -> None:
        EngineFailed.__init__(
            self, "The model is overloaded. Please try again.", retry="unavailable", retry_after_s=1.0
        )


def _client_error(text: str, param: Any) -> BadRequest:
    for pattern in _CONTEXT:
        if match := pattern.search(text):
            found = match.groupdict()
            used = f" However, your prompt has {found['used']} tokens." if found.get("used") else ""
            return BadRequest(
                f"This model's maximum context length is {found['limit']} tokens.{used} "
                "Please reduce the length of the prompt or of the output.",
                code="context_length_exceeded",
            )
    if _GRAMMAR.search(text):
        return BadRequest(
            "The JSON schema of the response format or of a tool cannot be used: it is invalid, or uses a "
            "feature that the model's grammar does not support.",
            code="invalid_json_schema",
        )
    match = _PARAM.fullmatch(param) if isinstance(param, str) and len(param) <= 64 else None
    name = match[1] if match else None
    where = f"the parameter '{name}'" if name else "a parameter"
    return BadRequest(f"The model cannot serve this request: {where} is not valid.", param=name)


def _error_object(body: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _number(code: Any) -> int | None:
    return code if isinstance(code, int) else None
