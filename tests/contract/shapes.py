"""What two engines' answers must have in common: keys, types and order, never words, ids or times."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, complete."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


def shape(value: Any) -> Any:
    """Return ``value`` with scalars as their type's name, and runs of equal shapes in lists as one."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return collapsed([shape(item) for item in value])
    return "null" if value is None else type(value).__name__


def collapsed(items: list[Any]) -> list[Any]:
    """Return ``items`` with each run of equal neighbours as one."""
    return [item for item, _ in groupby(items)]


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str | None
    data: str


def events(body: bytes) -> list[Event]:
    """Split a stream into its events; comments are left out."""
    found = []
    for frame in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append(Event(fields.pop("event", None), fields.pop("data")))
            assert not fields, f"unknown fields in an event: {fields}"
    return found


def sequence(body: bytes) -> list[tuple[str | None, Any]]:
    """Return the stream's events as names and shapes, runs collapsed; the end mark stands as its text."""
    return collapsed([(event.name, _payload(event.data)) for event in events(body)])


def _payload(data: str) -> Any:
    return data if data == "[DONE]" else shape(json.loads(data))


def differences(real: Any, simulated: Any, at: str = "") -> list[str]:
    """Return where two shapes differ, each line with its path and both sides."""
    if isinstance(real, dict) and isinstance(simulated, dict):
        keys = sorted(real.keys() | simulated.keys())
        return [
            line
            for key in keys
            for line in differences(real.get(key, "absent"), simulated.get(key, "absent"), f"{at}.{key}")
        ]
    if isinstance(real, list | tuple) and isinstance(simulated, list | tuple):
        pairs = zip_longest(real, simulated, fillvalue="absent")
        return [line for n, pair in enumerate(pairs) for line in differences(*pair, f"{at}[{n}]")]
    return [] if real == simulated else [f"{at}: real {real}, simulated {simulated}"]
