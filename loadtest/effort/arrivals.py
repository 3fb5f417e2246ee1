"""What arrives, by seed: the same requests at the same times for every system that is measured. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.core.effort import EFFORTS, Effort

MIX: Mapping[Effort, float] = {"low": 0.6, "medium": 0.3, "high": 0.1}
"""Shares by count."""
CONTROL_TOKENS = 10
"""What frames an answer in Harmony; it counts as output."""
ANSWER_TOKENS = 3
REASONING_TOKENS: Mapping[Effort, int] = {"low": 3, "medium": 47, "high": 307}
"""Means. With the two above, outputs have means of 16, 60 and 320 tokens: a 25th of the product's priors, so
that two minutes hold at least a hundred requests of each effort."""
MEAN_TOKENS: Mapping[Effort, int] = {
    effort: CONTROL_TOKENS + ANSWER_TOKENS + thought for effort, thought in REASONING_TOKENS.items()
}
"""Mean output."""
DEADLINES_S: Mapping[Effort, float] = {"low": 10.0, "medium": 30.0, "high": 300.0}
"""Longest wait for the first token; whoever has waited so long leaves."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come."""

    at_s: float
    """Seconds after the start."""
    effort: Effort
    seed: int
    """What its output follows from."""


def mean_tokens() -> float:
    """Return the mean output of a request of the mix."""
    return sum(MIX[effort] * MEAN_TOKENS[effort] for effort in EFFORTS)


def rate(load: float, capacity_tokens_per_s: float) -> float:
    """Return the requests per second that make ``load`` of a capacity."""
    return load * capacity_tokens_per_s / mean_tokens()


def arrivals(*, per_s: float, seconds: float, seed: int) -> list[Arrival]:
    """Return a Poisson process of ``per_s`` requests per second: the same one for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - a load, not a secret
    found: list[Arrival] = []
    at_s = rng.expovariate(per_s)
    while at_s < seconds:
        (effort,) = rng.choices(EFFORTS, weights=[MIX[one] for one in EFFORTS])
        found.append(Arrival(at_s, effort, rng.randrange(2**31)))
        at_s += rng.expovariate(per_s)
    return found
