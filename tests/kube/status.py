"""What the API says when it refuses: a ``Status`` object with the real codes and reasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Cause:
    """One thing wrong with an object."""

    field: str
    """Where, as ``spec.template.spec.containers[0].name``."""
    reason: str
    """`FieldValueRequired`, `FieldValueInvalid`, …"""
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A refusal, as the API tells it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        causes: Sequence[Cause] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s
        details: Object = {}
        if causes:
            details["causes"] = [
                {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
            ]
        if retry_after_s is not None:
            details["retryAfterSeconds"] = retry_after_s
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": details} if details else {}),
            "code": code,
        }


def bad_request(message: str) -> ApiError:
    """Return the refusal of what cannot be read."""
    return ApiError(400, "BadRequest", message)


def not_found(resource: str, name: str) -> ApiError:
    """Return the refusal where there is no such object; ``resource`` as ``rayservices.ray.io``."""
    error = ApiError(404, "NotFound", f'{resource} "{name}" not found')
    error.status["details"] = {"name": name, "kind": resource}
    return error


def invalid(kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """Return the refusal of an object that can be read and breaks rules; ``kind`` as ``Deployment.apps``."""
    told = str(causes[0]) if len(causes) == 1 else f"[{', '.join(map(str, causes))}]"
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {told}', causes=causes)


def conflict(resource: str, name: str, why: str) -> ApiError:
    """Return the refusal of a write that others were quicker than."""
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": {why}')


def too_old(version: int, oldest: int) -> ApiError:
    """Return the refusal of a version that has been compacted away."""
    return ApiError(410, "Expired", f"too old resource version: {version} ({oldest})")
