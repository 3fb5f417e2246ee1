"""A replica's reports to the request routers and to the autoscaler: what they say, and how they are read.

Serve carries them as dicts. During a rollout reports of an older or newer release arrive: what is missing has
a default, and what is unknown is ignored.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cluster.core.effort import EFFORTS, Effort
from cluster.core.engine import EngineLoad
from cluster.core.lanes import ByEffort, Demand
from cluster.core.routing import ReplicaView
from cluster.core.scaling import ReplicaLoad


def write(
    now_s: float, load: EngineLoad, expected_tokens: int, efforts: Sequence[Effort], demand: Demand
) -> dict[str, Any]:
    """Return the report as of ``now_s`` (epoch seconds).

    ``expected_tokens`` are what its requests, running and waiting, still have to generate; ``efforts`` are
    theirs.
    """
    return {
        "t": now_s,
        "running": load.running,
        "waiting": load.waiting,
        "slots": load.slots,
        "kv_use": load.kv_use,
        "expected_tokens": expected_tokens,
        "by_effort": {effort: efforts.count(effort) for effort in EFFORTS},
        "demand": demand.at(now_s)._asdict(),
    }


def read(
    replica: str, report: Mapping[str, Any] | None, *, picked: float = 0, picked_tokens: float = 0
) -> ReplicaView:
    """Return the replica as a router knows it; ``report`` is empty or None before the first one.

    ``picked`` requests, with ``picked_tokens`` expected, were sent to it since.
    """
    said = report or {}
    return ReplicaView(
        replica=replica,
        stats_at_s=said.get("t"),
        running=said.get("running", 0),
        waiting=said.get("waiting", 0),
        slots=said.get("slots", 1),
        kv_use=said.get("kv_use", 0.0),
        expected_tokens=said.get("expected_tokens", 0),
        by_effort=_by_effort(said.get("by_effort", {})),
        demand=_by_effort(said["demand"]) if "demand" in said else None,
        picked=picked,
        picked_tokens=picked_tokens,
    )


def _by_effort(said: Mapping[str, float]) -> ByEffort:
    return ByEffort(*(said.get(effort, 0) for effort in EFFORTS))


class OpenRequest(NamedTuple):
    """One request of a replica, as the autoscaler cares for it."""

    effort: Effort
    remaining_tokens: float
    """Output tokens still expected."""
    started: bool
    """Whether it has its first token."""
    age_s: float
    """Seconds since it came to the replica."""


def write_scaling(slots: int, requests: Iterable[OpenRequest], queued_tokens: float) -> dict[str, float]:
    """Return the report to the autoscaler: the fields of `ReplicaLoad`, as Serve carries numbers only."""
    running = running_tokens = waiting = waiting_tokens = low_wait_s = 0.0
    for request in requests:
        if request.started:
            running += 1
            running_tokens += request.remaining_tokens
            continue
        waiting += 1
        waiting_tokens += request.remaining_tokens
        if request.effort == "low":
            low_wait_s = max(low_wait_s, request.age_s)
    load = ReplicaLoad(slots, running, running_tokens, waiting, waiting_tokens, queued_tokens, low_wait_s)
    return load._asdict()


def read_scaling(said: Mapping[str, Mapping[Any, Sequence[Any]]]) -> list[ReplicaLoad]:
    """Return the loads of the replicas that have reported.

    ``said`` is what Serve's autoscaler has: by field and replica, the values of the last two seconds with
    their times, oldest first. The last one counts, but of a wait the longest: it is over when it is told.
    """
    return [
        ReplicaLoad(
            slots=values[-1].value,
            low_wait_s=max((one.value for one in said.get("low_wait_s", {}).get(replica, ())), default=0.0),
            **{field: _last(said, field, replica) for field in _COUNTED},
        )
        for replica, values in said.get("slots", {}).items()
        if values
    ]


_COUNTED = ("running", "running_tokens", "waiting", "waiting_tokens", "queued_tokens")


def _last(said: Mapping[str, Mapping[Any, Sequence[Any]]], field: str, replica: Any) -> float:
    values = said.get(field, {}).get(replica)
    return float(values[-1].value) if values else 0.0
