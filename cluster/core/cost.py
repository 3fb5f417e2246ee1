"""What answers cost: output tokens by model, effort and tenant, learned from the requests that have ended.

Effort is the best cheap sign of how long an answer will be, and the tenant is the next best. A tenant's
estimate starts as that of all tenants at the same model and effort, and that one as the settings' prior; each
start counts for a few answers, so that little evidence moves an estimate little and much of it moves it all
the way. Means say how much load a request is, a percentile how much of a limit to hold for it.

Old answers fade: the weight of each halves with every ``HALF_LIFE`` later ones of its kind. There is no clock
here: what is known is a function of the answers and their order alone.

Answers count while they run, too. After a start the short ones end first, and by these alone all would seem
short; so each length that a running answer passes is counted when it passes it, and not again at its end.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from operator import sub
from typing import Any, NamedTuple

from cluster.core.cost_snapshot import Entry, SnapshotError, read, write, written
from cluster.core.effort import Effort
from cluster.core.lengths import BUCKETS, MAX_TOKENS, PRIOR_WEIGHT, Fit, bucket, fit, prior

__all__ = ["CostModel", "Expected", "SnapshotError"]

HALF_LIFE = 200
"""Answers after which one counts for half: an estimate that has become wrong is half mended by then."""
MAX_LEARNED = 4096
"""Estimates of single tenants, one per model and effort; the one that was taught longest ago is forgotten."""
REASONING_SHARE = 0.5
"""Share of reasoning in an answer's tokens before any was seen: nobody has published one."""

_FADE = 2 ** (1 / HALF_LIFE)
"""The next answer's weight over the last one's: what is old need not be touched to fade."""
_MOST = 1.001 / (1 - 1 / _FADE)
"""Weight, in those of the newest, that the answers of even a long history do not reach."""
_HEAVY = 2.0**64
"""Weight of one answer at which all are scaled down, long before a sum overflows."""
_ANEW = 1 / 8
"""An estimate is made anew once the answers that it was made from have grown by this share."""


class Expected(NamedTuple):
    """What one answer is expected to take, in tokens."""

    reasoning: float
    """Mean."""
    answer: float
    """Mean."""
    p95: float
    """Reasoning and answer together, of all but one answer in twenty."""

    @property
    def output(self) -> float:
        """Mean of reasoning and answer together."""
        return self.reasoning + self.answer


class CostModel:
    """Learns what answers take, at every model and effort that it has a prior for.

    ``priors`` are mean output tokens, reasoning included. Each of `MAX_LEARNED` estimates takes about 3 KiB.
    """

    def __init__(self, priors: Mapping[tuple[str, Effort], float]) -> None:
        self._priors = dict(priors)
        self._pooled = {kind: _Learned(_unseen(mean)) for kind, mean in priors.items()}
        self._own: OrderedDict[tuple[str, Effort, str], _Learned] = OrderedDict()

    def estimate(self, model: str, effort: Effort, tenant: str) -> Expected:
        """Return what an answer will take. Raises `KeyError` for a model and effort without a prior."""
        own = self._own.get((model, effort, tenant))
        return (self._pooled[model, effort] if own is None else own).known().expected

    def observe(
        self,
        model: str,
        effort: Effort,
        tenant: str,
        *,
        reasoning: int,
        answer: int,
        cut: bool,
        counted: int = 0,
    ) -> None:
        """Learn from an answer of so many tokens, which would have gone on where it was ``cut``.

        ``counted`` are those that `progress` was told of. An answer without a token teaches nothing. Raises
        `KeyError` as `estimate` does.
        """
        pooled, output = self._pooled[model, effort], min(reasoning + answer, MAX_TOKENS)
        if output < 1:
            return
        own = self._taught(model, effort, tenant)
        first, last, reasoning = _start(counted), bucket(output), max(0, min(reasoning, output))
        for learned in (pooled, own):
            learned.go_on(first, last)
            learned.end(last, reasoning, output, cut)

    def progress(self, model: str, effort: Effort, tenant: str, *, counted: int, output: int) -> None:
        """Learn from an answer that runs and has come to ``output`` tokens, since it had those ``counted``.

        Raises `KeyError` as `estimate` does.
        """
        pooled, first, last = self._pooled[model, effort], _start(counted), _start(output)
        if last > first:
            for learned in (pooled, self._taught(model, effort, tenant)):
                learned.go_on(first, last)
                learned.hurry()

    def snapshot(self) -> dict[str, Any]:
        """Return all that was learned, as a value for JSON."""
        return write(self.entries())

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what a snapshot holds, 60 µs each; more may be learned between two of them."""
        pooled, own = list(self._pooled.items()), list(self._own.items())
        yield from (written(each.entry(*kind, None)) for kind, each in pooled)
        yield from (written(each.entry(*kind)) for kind, each in own)

    def restore(self, snapshot: object) -> None:
        """Replace all that was learned by a `snapshot`, less that of models which have no prior any more.

        Raises `SnapshotError`; nothing has changed then.
        """
        restored = CostModel(self._priors)
        for entry in read(snapshot, most=_MOST):
            restored._take(entry)
        self._pooled, self._own = restored._pooled, restored._own

    def _take(self, entry: Entry) -> None:
        model, effort, tenant = entry.model, entry.effort, entry.tenant
        if (model, effort) in self._pooled:
            kept = self._pooled[model, effort] if tenant is None else self._add((model, effort, tenant))
            kept.load(entry)

    def _taught(self, model: str, effort: Effort, tenant: str) -> "_Learned":
        """Return the tenant's own, as the one that was taught last."""
        kind = (model, effort, tenant)
        own = self._own.get(kind)
        if own is None:
            return self._add(kind)
        self._own.move_to_end(kind)
        return own

    def _add(self, kind: tuple[str, Effort, str]) -> "_Learned":
        model, effort, _ = kind
        own = self._own[kind] = _Learned(self._pooled[model, effort].known)
        if len(self._own) > MAX_LEARNED:
            self._own.popitem(last=False)
        return own


def _start(tokens: int) -> int:
    """Return the bucket that an answer of so many tokens has come to."""
    return bucket(tokens) if tokens > 0 else 0


class _Known(NamedTuple):
    """An estimate, and what others start from."""

    lengths: Fit
    reasoning_share: float
    expected: Expected

    @classmethod
    def of(cls, lengths: Fit, reasoning_share: float) -> "_Known":
        reasoning = lengths.mean * reasoning_share
        return cls(lengths, reasoning_share, Expected(reasoning, lengths.mean - reasoning, lengths.p95))


def _unseen(mean: float) -> Callable[[], _Known]:
    known = _Known.of(prior(mean), REASONING_SHARE)
    return lambda: known


class _Learned:
    """What was seen of one kind of answer; ``start`` gives the estimate that holds before any was."""

    __slots__ = ("_due", "_ended", "_known", "_output", "_reasoning", "_start", "_steps", "_weight")

    def __init__(self, start: Callable[[], _Known]) -> None:
        self._start, self._known = start, start()
        self._ended, self._steps = array("d", bytes(8 * BUCKETS)), array("d", bytes(8 * BUCKETS))
        """Weights, by length, of the answers that ended; and of those that came to it, less those that set
        out from it: added up from the top, what has passed each length."""
        self._reasoning = self._output = 0.0
        """Weighted tokens of the answers that ended."""
        self._weight = 1.0
        """Weight of the next answer."""
        self._due = 0
        """Answers that may yet come before the estimate is made anew."""

    def end(self, index: int, reasoning: int, output: int, cut: bool) -> None:
        """Add the end of an answer; ``index`` is the bucket of its ``output``."""
        weight = self._weight
        if not cut:
            self._ended[index] += weight
            self._reasoning += weight * reasoning
            self._output += weight * output
        self._weight = weight * _FADE
        self._due -= 1
        if weight > _HEAVY:
            self._rescale()

    def go_on(self, first: int, last: int) -> None:
        """Add that an answer has passed the buckets from ``first`` to the one before ``last``."""
        if last > first:
            self._steps[first] -= self._weight
            self._steps[last] += self._weight

    def hurry(self) -> None:
        """Have the estimate made anew when it is next asked for."""
        self._due = -1

    def known(self) -> _Known:
        """Return the estimate."""
        if self._due < 0:
            self._make()
        return self._known

    def entry(self, model: str, effort: Effort, tenant: str | None) -> Entry:
        """Return what was seen, for a snapshot."""
        self._rescale()
        return Entry(model, effort, tenant, list(self._ended), self._passed(), self._reasoning, self._output)

    def load(self, entry: Entry) -> None:
        """Replace what was seen by that of a snapshot."""
        came, passed = [0.0, *entry.passed[:-1]], entry.passed
        self._ended, self._steps = array("d", entry.ended), array("d", map(sub, came, passed))
        self._reasoning, self._output, self._weight, self._due = entry.reasoning, entry.output, 1.0, -1

    def _passed(self) -> list[float]:
        """Return the weights of the answers that went beyond each length."""
        sums = [max(above, 0.0) for above in accumulate(reversed(self._steps))]
        return [*sums[-2::-1], 0.0]

    def _make(self) -> None:
        start, old = self._start(), PRIOR_WEIGHT * self._weight
        passed = self._passed()
        lengths = fit(start.lengths, self._ended, passed, weight=old)
        tokens = old * start.lengths.mean
        share = (tokens * start.reasoning_share + self._reasoning) / (tokens + self._output)
        self._known = _Known.of(lengths, share)
        self._due = int((self._ended[0] + passed[0]) / self._weight * _ANEW)

    def _rescale(self) -> None:
        """Divide all weights by the next answer's."""
        weight, self._weight = self._weight, 1.0
        self._ended = array("d", [seen / weight for seen in self._ended])
        self._steps = array("d", [seen / weight for seen in self._steps])
        self._reasoning, self._output = self._reasoning / weight, self._output / weight
