"""Strict checks of single values: each returns the value, or raises `InvalidRequest` in OpenAI's words.

Types are strict: a boolean is no integer, a decimal with a zero fraction is none either, and no string is
ever read as a number.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from cluster.core.invalid import InvalidRequest, refused_value, wrong_type, wrong_value

Check = Callable[[Any, str], Any]
"""Takes a value, which is never None, and its path; returns the value that is used in its place."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names of functions and of authors: they stand in Harmony headers, so nothing else may be in them."""


def boolean(value: Any, path: str) -> bool:
    """Check a boolean."""
    if type(value) is not bool:
        raise wrong_type(path, "a boolean", value)
    return value


def text(value: Any, path: str) -> str:
    """Check a string of any length."""
    if type(value) is not str:
        raise wrong_type(path, "a string", value)
    return value


def mapping(value: Any, path: str) -> dict[str, Any]:
    """Check an object."""
    if type(value) is not dict:
        raise wrong_type(path, "an object", value)
    return value


def name(value: Any, path: str) -> str:
    """Check the name of a function or of an author."""
    if NAME.fullmatch(text(value, path)) is None:
        raise InvalidRequest(
            f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]{1,64}$'.",
            param=path,
            code="invalid_value",
        )
    return str(value)


def string(*, longest: int, shortest: int = 0) -> Check:
    """Return the check of a string of bounded length, in characters."""

    def check(value: Any, path: str) -> str:
        length = len(text(value, path))
        if length > longest:
            raise InvalidRequest(
                f"Invalid '{path}': string too long. Expected a string with maximum length {longest}, "
                f"but got a string with length {length} instead.",
                param=path,
                code="string_above_max_length",
            )
        if length < shortest:
            raise InvalidRequest(
                f"Invalid '{path}': string too short. Expected a string with minimum length {shortest}, "
                f"but got {'an empty string' if not length else f'a string with length {length}'} instead.",
                param=path,
                code="empty_string" if not length else "string_below_min_length",
            )
        return str(value)

    return check


def integer(low: int, high: int) -> Check:
    """Return the check of an integer from ``low`` to ``high``."""

    def check(value: Any, path: str) -> int:
        if type(value) is not int:
            raise wrong_type(path, "an integer", value)
        if not low <= value <= high:
            raise _out_of_range(path, "integer", value, low, high)
        return value

    return check


def decimal(low: float, high: float, *, open_low: bool = False) -> Check:
    """Return the check of a number from ``low`` (above it with ``open_low``) to ``high``."""

    def check(value: Any, path: str) -> float:
        if type(value) is not float and type(value) is not int:
            raise wrong_type(path, "a decimal", value)
        if not low <= value <= high or (open_low and value == low):
            raise _out_of_range(path, "decimal", value, low, high, open_low=open_low)
        return value

    return check


def choice(*words: str) -> Check:
    """Return the check of one word out of some."""

    def check(value: Any, path: str) -> str:
        if text(value, path) not in words:
            raise wrong_value(path, value, words)
        return str(value)

    return check


def array(value: Any, path: str, *, longest: int, shortest: int = 0) -> list[Any]:
    """Check an array of bounded length; its elements are the caller's business."""
    if type(value) is not list:
        raise wrong_type(path, "an array", value)
    if len(value) < shortest:
        raise InvalidRequest(
            f"Invalid '{path}': empty array. Expected an array with minimum length {shortest}, but got an "
            "empty array instead.",
            param=path,
            code="empty_array",
        )
    if len(value) > longest:
        raise InvalidRequest(
            f"Invalid '{path}': array too long. Expected an array with maximum length {longest}, but got an "
            f"array with length {len(value)} instead.",
            param=path,
            code="array_above_max_length",
        )
    return value


def words(*known: str, refused: Mapping[str, str] | None = None) -> Check:
    """Return the check of an array of words out of some; ``refused`` are others with the reasons why not."""
    reasons = refused or {}

    def check(value: Any, path: str) -> list[str]:
        for index, word in enumerate(array(value, path, longest=len(known) + len(reasons))):
            place = f"{path}[{index}]"
            if text(word, place) in reasons:
                raise refused_value(place, word, reasons[word], known)
            if word not in known:
                raise wrong_value(place, word, known)
        return list(value)

    return check


def metadata(value: Any, path: str) -> dict[str, str]:
    """Check metadata: at most 16 pairs, keys of at most 64 characters, values of at most 512."""
    pairs = mapping(value, path)
    if len(pairs) > 16:
        raise InvalidRequest(
            f"Invalid '{path}': too many properties. Expected an object with at most 16 properties, but got "
            f"an object with {len(pairs)} properties instead.",
            param=path,
            code="object_above_max_properties",
        )
    for key, item in pairs.items():
        _key(key, f"{path} key")
        _value(item, f"{path}.{key[:64]}")
    return pairs


_key = string(longest=64)
_value = string(longest=512)


def _out_of_range(
    path: str, kind: str, value: float, low: float, high: float, *, open_low: bool = False
) -> InvalidRequest:
    below = value < low or (open_low and value == low)
    side, word, sign = (
        ("below", "minimum", ">" if open_low else ">=") if below else ("above", "maximum", "<=")
    )
    return InvalidRequest(
        f"Invalid '{path}': {kind} {side} {word} value. Expected a value {sign} {low if below else high}, "
        f"but got {value} instead.",
        param=path,
        code=f"{kind}_{side}_{word[:3]}_value",
    )
