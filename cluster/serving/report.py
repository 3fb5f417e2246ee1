"""A replica's report to the request routers: what it says, and how a router reads it.

Serve carries it as a dict. During a rollout reports of an older or newer release arrive: what is missing has
a default, and what is unknown is ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.core.effort import EFFORTS, Effort
from cluster.core.engine import EngineLoad
from cluster.core.lanes import ByEffort, Demand
from cluster.core.routing import ReplicaView


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
