"""Why a release does not come up: each cause in one line with its mend, its root first. Pure."""

from collections.abc import Callable, Iterator

from deploy.release import Release
from deploy.stalls import operator, pods, serving
from deploy.stalls.words import Stall

__all__ = ["RULES", "Stall", "find"]

RULES: tuple[Callable[[Release], Iterator[Stall]], ...] = (
    operator.crd,
    operator.operator,
    operator.invalid,
    operator.suspended,
    operator.refused_pods,
    pods.images,
    pods.missing_references,
    pods.claims,
    serving.prefetch,
    pods.memory,
    serving.token,
    serving.applications,
    pods.crashes,
    pods.unscheduled,
    pods.init,
    operator.cut_off,
    operator.timeout,
    operator.upgrade,
    pods.gateway,
)
"""In the order in which one can be the cause of those below it."""


def find(release: Release) -> tuple[Stall, ...]:
    """Return every stall of a release, the root of the trouble first, each cause once."""
    found: dict[tuple[str, str], Stall] = {}
    for rule in RULES:
        for stall in rule(release):
            found.setdefault((stall.code, stall.mend), stall)
    return tuple(found.values())
