"""The engine's error, in vLLM's shape: ``{"error": {message, type, param, code}}``, code the HTTP number.

`EngineError` is every one of them but `UnreadableBodyError`, which FastAPI answers in a shape of its own.
"""

from typing import Any

from pydantic import ValidationError

BUSY = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)


class EngineError(Exception):
    """A request that the engine refuses or loses; ``kind`` is vLLM's ``type``."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.kind, self.param = message, status, kind, param

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return {"error": error}


class UnreadableBodyError(EngineError):
    """A body that is not even text."""

    def body(self) -> dict[str, Any]:
        """Return FastAPI's own shape."""
        return {"detail": self.message}


def busy() -> EngineError:
    """Return the error of a full queue."""
    return EngineError(BUSY, status=503, kind="Service Unavailable")


def internal(message: str) -> EngineError:
    """Return the error of a fault inside the engine."""
    return EngineError(message, status=500, kind="InternalServerError")


def invalid_json(position: int, reason: str) -> EngineError:
    """Return FastAPI's error for a body that is not JSON; ``position`` is in characters."""
    place = ("body", position)
    entry = {
        "type": "json_invalid",
        "loc": place,
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": reason},
    }
    return _bad_request([entry], f"body.{position}")


def unreadable_body() -> EngineError:
    """Return FastAPI's error for a body that is not UTF-8."""
    return UnreadableBodyError("There was an error parsing the body")


def missing_body() -> EngineError:
    """Return FastAPI's error for an empty body."""
    entry = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}
    return _bad_request([entry], "body")


def wrong_media_type() -> EngineError:
    """Return the error for a body that is not declared as JSON."""
    return _bad_request(["Unsupported Media Type: Only 'application/json' is allowed"], None)


def from_validation(error: ValidationError) -> EngineError:
    """Return the error for a body whose fields are wrong, named by the first wrong one."""
    entries: list[dict[str, Any]] = [
        {**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)
    ]
    first = [str(part) for part in entries[0]["loc"] if not _is_union_branch(str(part))]
    return _bad_request(entries, ".".join(first))


def _is_union_branch(part: str) -> bool:
    return any(mark in part for mark in "[](){}") or part.lower() in {"str", "int", "bool", "list", "dict"}


def _bad_request(entries: list[Any], param: str | None) -> EngineError:
    label = "error" if len(entries) == 1 else "errors"
    lines = "".join(f"  {entry}\n" for entry in entries).rstrip()
    return EngineError(f"{len(entries)} validation {label}:\n{lines}", kind="Bad Request", param=param)
