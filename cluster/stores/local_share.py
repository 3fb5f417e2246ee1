"""What one gateway decides while the store that all share is away: its share of each limit, in its memory.

Never wide open, because it divides by the gateways that were last known to be alive; never closed, because
every limit leaves at least one.
"""

from collections.abc import Callable, Iterable

from cluster.core.limits import Ask, Refusal, Reservation, day_of, share
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
    ) -> None:
        self._gateways, self._budgets = gateways, budgets
        self._memory = MemoryLimits(clock, max_request_s=max_request_s)
        self._admitted: dict[str, Reservation] = {}
        self._running: dict[str, Reservation] = {}
        for ask in running:
            self._memory.occupy(ask)
            self._running[ask.request_id] = Reservation(ask, None, None)

    def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Take what ``ask`` wants from this gateway's share, or nothing."""
        decision = self._memory.decide(share(ask, self._gateways, self._budgets.spent(ask)))
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


def _name(ask: Ask, level: int) -> tuple[str, ...]:
    return (ask.tenant, ask.effort) if level == 0 else (ask.tenant, ask.effort, ask.key_id)
