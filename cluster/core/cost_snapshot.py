"""What a cost model has learned as a value for JSON, and such a value read again, taken on no trust."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from cluster.core.effort import EFFORTS, Effort
from cluster.core.lengths import BUCKETS, MAX_TOKENS

VERSION = 2
MAX_NAME = 256
"""Longest name of a model or tenant, in characters."""
MAX_ENTRIES = 8192
MAX_RUNNING = 16_384
"""Answers that run at once in one gateway, at most."""
_KEYS = frozenset({"model", "effort", "tenant", "ended", "passed", "reasoning", "output"})


class SnapshotError(ValueError):
    """A snapshot is not what a cost model gave; the message says where. The mend is to start without it."""


class Entry(NamedTuple):
    """What was seen of one kind of answer, in weights of the newest."""

    model: str
    effort: Effort
    tenant: str | None
    """None: of all tenants."""
    ended: list[float]
    """Answers of each length, by bucket."""
    passed: list[float]
    """Answers that went beyond each length."""
    reasoning: float
    """Tokens of reasoning in the answers that ended."""
    output: float
    """All tokens in them."""


def write(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the snapshot of `written` entries, which keep their order."""
    return {"version": VERSION, "learned": list(entries)}


def read(snapshot: object, *, most: float) -> list[Entry]:
    """Return the entries of a snapshot. Raises `SnapshotError`.

    ``most`` is the weight that the answers of one entry which ended may have together, and `MAX_RUNNING` more
    those that passed one length: a heavier past would hardly fade.
    """
    if not isinstance(snapshot, dict) or snapshot.keys() != {"version", "learned"}:
        raise SnapshotError("a snapshot is an object with `version` and `learned`, and nothing else")
    if snapshot["version"] != VERSION:
        raise SnapshotError(f"version {VERSION} is understood, and this is another")
    entries = snapshot["learned"]
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise SnapshotError(f"`learned` must be a list of at most {MAX_ENTRIES} entries")
    found: dict[tuple[str, Effort, str | None], Entry] = {}
    for number, value in enumerate(entries):
        try:
            entry = _entry(value, most)
        except SnapshotError as error:
            raise SnapshotError(f"learned[{number}]: {error}") from None
        if found.setdefault(entry[:3], entry) is not entry:
            raise SnapshotError(f"learned[{number}]: an earlier entry is of the same kind")
    return list(found.values())


def written(entry: Entry) -> dict[str, Any]:
    """Return an entry as it is in a snapshot."""
    sparse = {name: _sparse(getattr(entry, name)) for name in ("ended", "passed")}
    sums = {name: round(getattr(entry, name), 3) for name in ("reasoning", "output")}
    return entry._asdict() | sparse | sums


def _sparse(weights: list[float]) -> list[list[float]]:
    rounded = [round(weight, 6) for weight in weights]
    return [[index, weight] for index, weight in enumerate(rounded) if weight]


def _entry(value: object, most: float) -> Entry:
    if not isinstance(value, dict) or value.keys() != _KEYS:
        raise SnapshotError(f"an entry is an object with {', '.join(sorted(_KEYS))}, and nothing else")
    if value["effort"] not in EFFORTS:
        raise SnapshotError(f"`effort` must be one of {', '.join(EFFORTS)}")
    tenant = value["tenant"]
    ended, passed = _weights(value["ended"]), _weights(value["passed"])
    if sum(ended) > most or max(passed) > most + MAX_RUNNING:
        raise SnapshotError(
            f"its answers weigh more than {most:.0f}, or those on their way {MAX_RUNNING} more"
        )
    output = _number(value["output"], most * MAX_TOKENS)
    return Entry(
        model=_name(value["model"]),
        effort=cast(Effort, value["effort"]),
        tenant=None if tenant is None else _name(tenant),
        ended=ended,
        passed=passed,
        reasoning=_number(value["reasoning"], output),
        output=output,
    )


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise SnapshotError(f"names must be strings of 1 to {MAX_NAME} characters")
    return value


def _weights(value: object) -> list[float]:
    weights = [0.0] * BUCKETS
    if not isinstance(value, list) or len(value) > BUCKETS:
        raise SnapshotError(f"lengths must be lists of at most {BUCKETS} pairs")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise SnapshotError("lengths must be pairs of a bucket and a weight")
        index, weight = pair
        if type(index) is not int or not 0 <= index < BUCKETS:
            raise SnapshotError(f"buckets must be whole numbers below {BUCKETS}")
        weights[index] += _number(weight, math.inf)
    return weights


def _number(value: object, most: float) -> float:
    """Return a number that is none of NaN, infinity, below 0 or above ``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise SnapshotError(f"weights and tokens must be numbers from 0 to {most:g}")
    if not value < 2.0**64:
        raise SnapshotError("weights and tokens must be finite numbers")
    return float(value)
