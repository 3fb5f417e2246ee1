"""The error of a wrong request, and OpenAI's wording for each way of being wrong."""

from collections.abc import Iterable
from typing import Any

SHOWN = 64
"""Most characters of the client's own input that an error repeats."""

_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class InvalidRequest(Exception):  # noqa: N818  the word that OpenAI uses
    """The request is wrong, and the client can mend it.

    ``status`` is 400, 404, 413 or 415; ``message``, ``param`` and ``code`` are OpenAI's error fields.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


def shown(text: str) -> str:
    """Return client input as an error may repeat it: short, and without control characters."""
    cut = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return "".join(char if char.isprintable() else "�" for char in cut)


def listed(words: Iterable[str]) -> str:
    """Return ``'a', 'b', and 'c'``."""
    quoted = [f"'{word}'" for word in words]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return ", ".join(quoted[:-1]) + ", and " + quoted[-1]


def wrong_type(path: str, expected: str, value: Any) -> InvalidRequest:
    """Return the error of a value of the wrong JSON type; ``expected`` has its article."""
    return InvalidRequest(
        f"Invalid type for '{path}': expected {expected}, but got {_NAMES[type(value)]} instead.",
        param=path,
        code="invalid_type",
    )


def wrong_value(path: str, value: str, supported: Iterable[str]) -> InvalidRequest:
    """Return the error of a word that is none of the supported ones."""
    return InvalidRequest(
        f"Invalid value: '{shown(value)}'. Supported values are: {listed(supported)}.",
        param=path,
        code="invalid_value",
    )


def refused_value(path: str, value: str, reason: str, supported: Iterable[str]) -> InvalidRequest:
    """Return the error of a word that OpenAI knows and this service refuses."""
    return InvalidRequest(
        f"Invalid value: '{shown(value)}' is not supported here: {reason}. Supported values are: "
        f"{listed(supported)}.",
        param=path,
        code="invalid_value",
    )


def missing(path: str) -> InvalidRequest:
    """Return the error of a required field that is not there."""
    return InvalidRequest(
        f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
    )


def unknown(path: str) -> InvalidRequest:
    """Return the error of a field inside an object that nobody knows."""
    name = shown(path)
    return InvalidRequest(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def unrecognized(names: list[str]) -> InvalidRequest:
    """Return the error of fields of the request that nobody knows."""
    some = [shown(name) for name in names[:5]]
    plural = "s" if len(names) > 1 else ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return InvalidRequest(
        f"Unrecognized request argument{plural} supplied: {', '.join(some)}{more}",
        param=some[0],
        code="unknown_parameter",
    )


def unsupported(path: str, reason: str) -> InvalidRequest:
    """Return the error of a field that OpenAI knows and this service refuses."""
    return InvalidRequest(
        f"Unsupported parameter: '{path}' is not supported: {reason}.",
        param=path,
        code="unsupported_parameter",
    )
