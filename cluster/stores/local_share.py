"""What one gateway decides while the store that all share is away: its share of each limit, in its memory.

Never wide open, because it divides by the gateways that were last known to be alive, and what is left by what
was last known of it; never closed, because every limit leaves at least one.
"""

from collections.abc import Callable, Iterable, Sequence

from cluster.core.limits import Account, Ask, Limits, Refusal, Reservation, day_of, refill, share
from cluster.stores.memory_limits import MemoryLimits


class LocalShare:
    """Limits of one gateway alone, for the length of one outage.

    ``running`` are the asks of requests in flight: they keep their slots. ``clock`` returns seconds of the
    epoch.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        max_request_s: float,
        gateways: int,
        running: Iterable[Ask],
        budgets: "Budgets",
        buckets: "Buckets",
    ) -> None:
        self._gateways, self._budgets, self._buckets = gateways, budgets, buckets
        self._begun: set[tuple[str, ...]] = set()
        self._memory = MemoryLimits(clock, max_request_s=max_request_s)
        self._admitted: dict[str, Reservation] = {}
        self._running: dict[str, Reservation] = {}
        for ask in running:
            self._memory.occupy(ask)
            self._running[ask.request_id] = Reservation(ask, None, None)

    def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Take what ``ask`` wants from this gateway's share, or nothing."""
        shared = share(ask, self._gateways, self._budgets.spent(ask))
        self._begin(ask, shared)
        decision = self._memory.decide(shared)
        if isinstance(decision, Refusal):
            return decision
        self._admitted[ask.request_id] = decision
        return Reservation(ask, decision.requests, decision.tokens)

    def settle(self, ask: Ask, *, tokens: int) -> None:
        """Settle a request that was admitted here, or free the slot of one that was not."""
        if admitted := self._admitted.pop(ask.request_id, None):
            self._memory.settle(admitted, tokens=tokens)
        elif running := self._running.pop(ask.request_id, None):
            self._memory.settle(running, tokens=running.ask.tokens)

    def _begin(self, ask: Ask, shared: Ask) -> None:
        """Have each level begin with its share of what is left, when it is first asked for."""
        for level, (name, limits) in enumerate(zip(_level_names(ask), shared.limits, strict=True)):
            if name in self._begun:
                continue
            self._begun.add(name)
            if (left := self._buckets.left(name, ask.limits[level])) is not None:
                self._memory.begin(level, _part(left, ask.limits[level], limits), shared)


class Buckets:
    """What the buckets of tenants and keys were last known to hold. ``clock`` as for `LocalShare`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[tuple[str, ...], tuple[int, int, float]] = {}
        """Units of requests and of tokens by level, and when that was known, in seconds of the epoch."""

    def note(self, ask: Ask, held: Sequence[tuple[int, int]]) -> None:
        """Remember what the levels of ``ask`` hold: requests and tokens, in units."""
        now_s = self._clock()
        self._held[ask.tenant,] = *held[0], now_s
        if len(held) > 1:
            self._held[ask.tenant, ask.key_id] = *held[1], now_s

    def left(self, name: tuple[str, ...], limits: Limits) -> Account | None:
        """Return what a level holds by now, if nothing was taken since; None where it was never known."""
        if name not in self._held:
            return None
        requests, tokens, then_s = self._held[name]
        known = Account(
            requests=None if limits.requests_per_min is None else requests,
            tokens=None if limits.tokens_per_min is None else tokens,
            at_us=int(then_s * 1_000_000),
        )
        return refill(known, limits, int(self._clock() * 1_000_000))


def _part(left: Account, whole: Limits, part: Limits) -> Account:
    """Return as much of what is left as a share of the limits is of the whole ones."""

    def of(level: int | None, all_of_it: int | None, some: int | None) -> int | None:
        return None if level is None or not all_of_it or some is None else level * some // all_of_it

    return left._replace(
        requests=of(left.requests, whole.requests_per_min, part.requests_per_min),
        tokens=of(left.tokens, whole.tokens_per_min, part.tokens_per_min),
    )


class Budgets:
    """The day's tokens that tenants and keys were last known to have spent, of those that have a budget."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._day = 0
        self._spent: dict[tuple[str, ...], int] = {}

    def note(self, ask: Ask, spent: Iterable[int]) -> None:
        """Remember what the levels of ``ask`` have spent at its effort."""
        self._begin_day()
        for level, tokens in enumerate(spent):
            if ask.limits[level].tokens_per_day is not None:
                self._spent[_name(ask, level)] = tokens

    def spent(self, ask: Ask) -> list[int]:
        """Return what the levels of ``ask`` were last known to have spent today at its effort."""
        self._begin_day()
        return [self._spent.get(_name(ask, level), 0) for level in range(len(ask.limits))]

    def _begin_day(self) -> None:
        today = day_of(int(self._clock() * 1_000_000))
        if today != self._day:
            self._day = today
            self._spent.clear()


def _level_names(ask: Ask) -> tuple[tuple[str, ...], ...]:
    return ((ask.tenant,), (ask.tenant, ask.key_id))[: len(ask.limits)]


def _name(ask: Ask, level: int) -> tuple[str, ...]:
    return (ask.tenant, ask.effort) if level == 0 else (ask.tenant, ask.effort, ask.key_id)
