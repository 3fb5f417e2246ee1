"""Limits kept in the gateway's own memory: exact for a single gateway, forgotten when it ends."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cluster.core.effort import Effort
from cluster.core.limits import Account, Ask, Limits, Refusal, Reservation, day_of, full, reserve, settle

LEASE_GRACE_S = 60
"""Seconds beyond the longest request after which a slot that nobody settled is free again."""
SWEEP_EVERY_US = 60_000_000
"""How often idle books are forgotten, in microseconds."""


@dataclass(slots=True)
class _Book:
    """What one tenant or one key holds; mutable, and owned by the store."""

    account: Account = field(default_factory=Account)
    limits: Limits | None = None
    """Those under which the account was written last."""
    day: int = 0
    spent: dict[Effort, int] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    """When each request reserved, in microseconds of the epoch, by its id; in that order."""

    def seen_by(self, ask: Ask) -> Account:
        """Return the account as this request sees it."""
        return self.account._replace(in_flight=len(self.leases), spent=self.spent.get(ask.effort, 0))

    def note(self, account: Account, ask: Ask, limits: Limits) -> None:
        """Keep what the account has become."""
        self.account, self.limits = account, limits
        if limits.tokens_per_day is not None:
            self.spent[ask.effort] = account.spent


class MemoryLimits:
    """The `LimitStore` in memory.

    ``clock`` returns seconds of the epoch. No call awaits anything, so that each is one atomic step on the
    event loop. A settle after the lease has expired changes nothing: the reserved tokens stay charged.
    """

    def __init__(self, clock: Callable[[], float], *, max_request_s: float) -> None:
        self._clock = clock
        self._lease_us = int((max_request_s + LEASE_GRACE_S) * 1_000_000)
        self._books: dict[tuple[str, ...], _Book] = {}
        self._swept_us = 0

    async def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Take all that ``ask`` wants in one step, or nothing.

        Raises ``ValueError`` when its request id holds a reservation already.
        """
        return self.decide(ask)

    def decide(self, ask: Ask) -> Reservation | Refusal:
        """Do as `reserve` does, for who cannot await."""
        now_us = self._now_us()
        self._sweep(now_us)
        books = [self._books.setdefault(name, _Book()) for name in _names(ask)]
        for book in books:
            self._catch_up(book, now_us)
        if ask.request_id in books[0].leases:
            raise ValueError(f"request {ask.request_id} holds a reservation already")
        accounts, decision = reserve([book.seen_by(ask) for book in books], ask, now_us)
        if isinstance(decision, Reservation):
            for book, account, limits in zip(books, accounts, ask.limits, strict=True):
                book.note(account, ask, limits)
                book.leases[ask.request_id] = now_us
        return decision

    def begin(self, level: int, account: Account, ask: Ask) -> None:
        """Let the buckets of one of the levels that ``ask`` takes from hold what those of ``account`` do."""
        book = self._books.setdefault(list(_names(ask))[level], _Book())
        book.account, book.limits = account, ask.limits[level]

    def occupy(self, ask: Ask) -> None:
        """Count the slot of a request that runs already; its tokens were taken elsewhere."""
        now_us = self._now_us()
        for name in _names(ask):
            self._books.setdefault(name, _Book()).leases[ask.request_id] = now_us

    def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Correct the reservation to the ``tokens`` used, refund or debt, and free its slot. Idempotent."""
        now_us, ask = self._now_us(), reservation.ask
        for name, limits in zip(_names(ask), ask.limits, strict=True):
            book = self._books.get(name)
            if book is None:
                continue
            self._catch_up(book, now_us)
            reserved_us = book.leases.get(ask.request_id)
            if reserved_us is None:
                continue
            account = settle(book.seen_by(ask), limits, reserved=ask.tokens, used=tokens, now_us=now_us)
            del book.leases[ask.request_id]
            if day_of(reserved_us) != book.day:  # yesterday's refund must not enlarge today's budget
                account = account._replace(spent=book.spent.get(ask.effort, 0))
            book.note(account, ask, limits)

    @property
    def books(self) -> int:
        """Number of tenants, and of keys with limits of their own, that are remembered."""
        return len(self._books)

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    def _catch_up(self, book: _Book, now_us: int) -> None:
        """Let expired leases go, and start the day's budgets anew at midnight."""
        while book.leases:
            request_id, reserved_us = next(iter(book.leases.items()))
            if reserved_us + self._lease_us > now_us:
                break
            del book.leases[request_id]
        if day_of(now_us) > book.day:
            book.day = day_of(now_us)
            book.spent.clear()

    def _sweep(self, now_us: int) -> None:
        if now_us - self._swept_us < SWEEP_EVERY_US:
            return
        self._swept_us = now_us
        for name, book in list(self._books.items()):
            self._catch_up(book, now_us)
            if not book.leases and not book.spent and _full(book, now_us):
                del self._books[name]


def _names(ask: Ask) -> Iterable[tuple[str, ...]]:
    """Return the names of the books that ``ask`` takes from, the tenant's first."""
    return ((ask.tenant,), (ask.tenant, ask.key_id))[: len(ask.limits)]


def _full(book: _Book, now_us: int) -> bool:
    return book.limits is None or full(book.account, book.limits, now_us)
