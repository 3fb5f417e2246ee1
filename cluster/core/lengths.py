"""How long answers are: a distribution over log-spaced lengths, learned also from those that did not end.

An answer that was cut at 100 tokens, or is there now, has *at least* 100. To count it as one of 100 would
teach that answers are short, most of all where they are so long that they are cut; to leave it out would
teach the same, because the long ones are the ones left out. So lengths are learned as lifetimes are, by a
life table (Cutler and Ederer, 1958; Kaplan and Meier's estimate over buckets): of the answers that reached a
bucket of lengths, how many ended in it, and how many went on? Beyond the longest that is known the shape of
the prior decides. An answer that went on can thus raise an expectation and never lowers one.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import NamedTuple

MAX_TOKENS = 2**17
"""Longest answer that is told apart: the context of gpt-oss."""
PER_OCTAVE = 4
"""Buckets for each doubling of the length: a length is known to within 19 %."""
BUCKETS = 17 * PER_OCTAVE + 1
"""Bucket b holds lengths from 2**(b / 4) tokens to those of bucket b + 1; the last has no end."""
PRIOR_WEIGHT = 10.0
"""Answers that a prior counts for: few enough that a wrong one is soon outvoted."""
PRIOR_SIGMA = 1.0
"""Spread of a prior, which is log-normal: the standard deviation of the logarithm. The best published lengths
(UltraChat at medium effort: median 3,891 tokens and 90th percentile 10,800, prompts included) have 0.8, and
many uses at once spread further than one."""
PERCENTILE = 0.95
"""Share of answers that a reservation should cover."""


class Fit(NamedTuple):
    """A distribution of lengths."""

    shares: Sequence[float]
    """Share of the answers in each bucket; they add up to 1."""
    mean: float
    """Tokens."""
    p95: float
    """Tokens that ``PERCENTILE`` of the answers do not exceed."""


def bucket(tokens: int) -> int:
    """Return the bucket of an answer of ``tokens``, at least 1."""
    return int(PER_OCTAVE * math.log2(tokens)) if tokens < MAX_TOKENS else BUCKETS - 1


def prior(mean: float) -> Fit:
    """Return the log-normal distribution with that mean, in tokens."""
    mean = min(mean, MAX_TOKENS)
    middle = math.log(mean) - PRIOR_SIGMA**2 / 2
    scale = PRIOR_SIGMA * math.sqrt(2)
    longer = [math.erfc((math.log(floor) - middle) / scale) / 2 for floor in _FLOORS[1:]]
    shares = [above - below for above, below in zip([1.0, *longer], [*longer, 0.0], strict=True)]
    return Fit(array("d", shares), mean, _percentile(shares))


def fit(expected: Fit, ended: Sequence[float], passed: Sequence[float], *, weight: float) -> Fit:
    """Return the distribution of lengths behind what was seen.

    ``ended`` are the numbers of answers that ended in each bucket, ``passed`` of those that went beyond it;
    ``expected`` is the prior, which counts for ``weight`` answers. An answer that came to a bucket and has
    left it counts there as one, and one that was cut in it, or is in it, as a half: so far it is on average.
    """
    shares: list[float] = []
    left, came = 1.0, ended[0] + passed[0]
    for share, longer, ends, went_on in zip(
        expected.shares, _longer(expected.shares), ended, passed, strict=True
    ):
        here = share * weight + ends
        reached = (share + longer) * weight + (came + ends + went_on) / 2
        gone = left * min(here / reached, 1.0) if here else 0.0
        shares.append(gone)
        left, came = left - gone, went_on
    shares[-1] += max(left, 0.0)  # went on beyond the last bucket, which has no end
    return Fit(array("d", shares), sum(map(mul, shares, _MEANS)), _percentile(shares))


def _longer(shares: Sequence[float]) -> Iterable[float]:
    """Return, by bucket, the share of the answers that are longer."""
    # summed up from the top, where the numbers are small, so that nothing is lost
    return reversed([0.0, *accumulate(reversed(shares[1:]))])


def _percentile(shares: Sequence[float]) -> float:
    below = 0.0
    for index, share in enumerate(shares):
        if below + share >= PERCENTILE:
            return min(2 ** ((index + (PERCENTILE - below) / share) / PER_OCTAVE), MAX_TOKENS)
        below += share
    return MAX_TOKENS


_FLOORS = [2 ** (index / PER_OCTAVE) for index in range(BUCKETS)]
_MEANS = [(above - floor) / math.log(above / floor) for floor, above in pairwise(_FLOORS)] + [
    float(MAX_TOKENS)
]
"""Mean length in each bucket, where lengths are spread evenly over their logarithm."""
