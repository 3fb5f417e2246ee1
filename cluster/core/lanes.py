"""Effort lanes: which replicas long work prefers, so that low-effort work runs in smaller batches.

All replicas are equal, and a lane is a preference, never a wall. Replicas are ranked by name; the first ones,
up to a boundary, are the high lane, where high and medium effort are at home, the others the low lane. Medium
effort is a third of all tokens: where it floats, it fills the low lane up again. The boundary follows from
what the replicas report alone, so routers that see the same reports draw the same one without talking to each
other, a restarted one at once. It cannot flap: it moves as slowly as the demand does, which is counted over
minutes, and a replica changes sides by degrees.

The demand is counted as requests *arrive*. Shares of what runs would be simpler, and were simulated: crowded
work stays longer and so looks like more demand, the boundary swings, and half of the lanes' gain is lost.
What runs only says how large the high lane has to be at least, so that it does not spill over.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from cluster.core.effort import Effort

WINDOW_S = 120.0
"""Time constant of the demand: two high-effort requests long, as a boundary that moves while they run leaves
them in the wrong lane. 60 and 240 were simulated too, and differ by less than the spread of seeds."""


class ByEffort(NamedTuple):
    """One figure for each level of effort: requests, or tokens."""

    low: float = 0.0
    medium: float = 0.0
    high: float = 0.0


NOTHING = ByEffort()


class Demand(NamedTuple):
    """Expected output tokens of the requests that came, by effort, those of long ago counted less."""

    tokens: ByEffort = NOTHING
    at_s: float = 0.0
    """Epoch seconds up to which ``tokens`` have faded."""

    def plus(self, effort: Effort, tokens: float, now_s: float) -> "Demand":
        """Return the demand with one more request."""
        faded = self.at(now_s)
        return Demand(faded._replace(**{effort: getattr(faded, effort) + tokens}), now_s)

    def at(self, now_s: float) -> ByEffort:
        """Return the tokens as they count at ``now_s``; a clock that went back fades nothing."""
        share = math.exp(-max(0.0, now_s - self.at_s) / WINDOW_S)
        low, medium, high = self.tokens
        return ByEffort(low * share, medium * share, high * share)


def long_share(demand: Iterable[ByEffort]) -> float | None:
    """Return the share of all demand that is of medium or high effort; None when there is no demand."""
    long = total = 0.0
    for part in demand:
        long += part.medium + part.high
        total += part.low + part.medium + part.high
    return long / total if total > 0 else None


def boundary(share: float, replicas: int, pressure: float) -> float:
    """Return how many of ``replicas`` are the high lane, a fraction of one included.

    ``share`` of the demand is at home there. ``pressure`` is the demand that a replica of the high lane
    takes for each unit that one of the low lane takes: 1 makes all batches equal, and so the lanes useless.
    """
    return replicas * share / (share + pressure * (1 - share))


def packed(requests: float, slots: float, fill: float) -> float:
    """Return how many replicas of ``slots`` hold ``requests`` when they are filled to ``fill`` of them."""
    return requests / (fill * slots)


def memberships(replicas: int, edge: float | None) -> list[float]:
    """Return how far each rank belongs to the high lane: 1 wholly, 0 to the low lane, 0.5 to both.

    The replica that the boundary ``edge`` crosses stays in the low lane until half of it is past: half a
    crowd slows low-effort work nearly as much as a whole one. With None there are no lanes.
    """
    if edge is None:
        return [0.5] * replicas
    return [min(1.0, max(0.0, 2 * (edge - rank) - 1)) for rank in range(replicas)]
