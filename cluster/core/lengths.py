"""How long answers are: a distribution over log-spaced lengths, learned also from those that were cut.

An answer that was cut at 100 tokens would have had *at least* 100. To count it as one of 100 would teach that
answers are short, most of all where they are so long that they are cut; to leave it out would teach the same,
because the long ones are the ones left out. So lengths are learned as lifetimes are, by a life table (Cutler
and Ederer, 1958; Kaplan and Meier's estimate over buckets): a cut answer counts among those that reached each
length up to its cut, and tells nothing of those beyond. There, where nothing else is known, the shape of the
prior decides. A cut answer can thus raise an expectation and never lowers one.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from operator import add, mul
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


def fit(expected: Fit, ended: Sequence[float], cut: Sequence[float], *, weight: float) -> Fit:
    """Return the distribution of lengths behind what was seen.

    ``ended`` and ``cut`` are the numbers of answers, by bucket, that ended and that were cut at that length;
    ``expected`` is the prior, which counts for ``weight`` of them.
    """
    ends = [share * weight + seen for share, seen in zip(expected.shares, ended, strict=True)]
    shares: list[float] = []
    left = 1.0
    for here, cut_here, reached in zip(ends, cut, _reached(ends, cut), strict=True):
        # who was cut within a bucket was in it for half of it, on average
        share = left * here / (reached - cut_here / 2) if here else 0.0
        shares.append(share)
        left -= share
    shares[-1] += max(left, 0.0)  # reached the last bucket, and was cut there
    return Fit(array("d", shares), sum(map(mul, shares, _MEANS)), _percentile(shares))


def _reached(ends: Sequence[float], cut: Sequence[float]) -> Iterable[float]:
    """Return, by bucket, how many answers are known to have reached it."""
    # summed up from the top, where the numbers are small: each sum then is no less than its parts
    sums: list[float] = list(accumulate(map(add, reversed(ends), reversed(cut))))
    return reversed(sums)


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
