"""Which replica a request goes to: filter, score in [0, 1], pick, over a snapshot.

Scorers know nothing of each other; their weights stand outside them, in `Policy`. Everything is a value: the
caller passes the snapshot, the clock and, to break ties, a number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from cluster.core.hint import RouteHint

Reason = Literal["scored", "no_hint", "stale", "all_avoided"]


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica as the router knows it."""

    replica: str
    stats_at_s: float | None
    """Epoch seconds of its last statistics; None before the first."""
    running: int = 0
    waiting: int = 0
    slots: int = 1
    kv_use: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    expected_tokens: int = 0
    """Output tokens that its requests still have to generate, as expected."""
    picked: int = 0
    """Requests that this router sent it since the statistics."""
    picked_tokens: int = 0
    """Their expected output tokens."""

    @property
    def requests(self) -> int:
        """Requests on the replica, those on their way included."""
        return self.running + self.waiting + self.picked


@dataclass(frozen=True, slots=True)
class Choice:
    """The replica picked and why; ``reason`` other than ``scored`` is a fallback."""

    replica: str
    reason: Reason


Scorer = Callable[[Sequence[ReplicaView], RouteHint], Sequence[float]]


def expected_load(replicas: Sequence[ReplicaView], hint: RouteHint) -> Sequence[float]:
    """Score by the tokens that stand before or beside the request: 1 for none, 0 for the most of all."""
    del hint  # every request counts its own tokens once it is picked
    tokens = [view.expected_tokens + view.picked_tokens for view in replicas]
    return _inverse(tokens)


def free_slots(replicas: Sequence[ReplicaView], hint: RouteHint) -> Sequence[float]:
    """Score by the share of free slots, so that a full replica loses to one that can start at once."""
    del hint
    return [max(0.0, 1 - view.requests / view.slots) for view in replicas]


def free_cache(replicas: Sequence[ReplicaView], hint: RouteHint) -> Sequence[float]:
    """Score by free KV cache: a replica without any preempts requests, which costs their prefill again."""
    del hint
    return [1 - min(1.0, max(0.0, view.kv_use)) for view in replicas]


@dataclass(frozen=True, slots=True)
class Policy:
    """The scorers with their weights, and when statistics are too old."""

    weights: Mapping[Scorer, float] = field(
        default_factory=lambda: MappingProxyType({expected_load: 1.0, free_slots: 1.0, free_cache: 0.5})
    )
    stale_after_s: float = 5.0
    """Statistics arrive about twice a second; ten missed in a row say that the replica does not answer."""


DEFAULT_POLICY = Policy()


def choose(
    replicas: Sequence[ReplicaView],
    hint: RouteHint | None,
    *,
    now_s: float,
    tie: float,
    policy: Policy = DEFAULT_POLICY,
) -> Choice:
    """Pick a replica for a request. ``replicas`` is not empty; ``tie`` in [0, 1) decides between equals."""
    fresh = [view for view in replicas if _is_fresh(view, now_s, policy)]
    if not fresh:
        return Choice(_least_loaded(replicas, tie), "stale")
    if hint is None:
        return Choice(_least_loaded(fresh, tie), "no_hint")
    allowed = [view for view in fresh if view.replica != hint.avoid]
    if not allowed:
        return Choice(_least_loaded(fresh, tie), "all_avoided")
    return Choice(_best(allowed, _scores(allowed, hint, policy), tie), "scored")


def _is_fresh(view: ReplicaView, now_s: float, policy: Policy) -> bool:
    return view.stats_at_s is not None and now_s - view.stats_at_s <= policy.stale_after_s


def _scores(replicas: Sequence[ReplicaView], hint: RouteHint, policy: Policy) -> list[float]:
    totals = [0.0] * len(replicas)
    for scorer, weight in policy.weights.items():
        for index, score in enumerate(scorer(replicas, hint)):
            totals[index] += weight * score
    return totals


def _least_loaded(replicas: Sequence[ReplicaView], tie: float) -> str:
    return _best(replicas, [-view.requests / view.slots for view in replicas], tie)


def _best(replicas: Sequence[ReplicaView], scores: Sequence[float], tie: float) -> str:
    highest = max(scores)
    equals = [view.replica for view, score in zip(replicas, scores, strict=True) if score == highest]
    return equals[int(tie * len(equals))]


def _inverse(values: Sequence[int]) -> list[float]:
    most = max(values)
    return [1 - value / most if most else 1.0 for value in values]
