"""Limits kept in the gateway's own memory: exact for a single gateway, forgotten when it ends."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.core.effort import Effort
from cluster.core.limits import Account, Ask, Limits, Refusal, Reservation, day_of, full, reserve, settle

LEASE_GRACE_S = 60
"""Seconds beyond the longest request after which a slot that nobody settled is free again."""
SWEEP_EVERY_US = 60_000_000
"""How often idle tenants are forgotten, in microseconds."""


@dataclass(slots=True)
class _Tenant:
    """What one tenant holds; mutable, and owned by the store."""

    account: Account = field(default_factory=Account)
    limits: Limits | None = None
    """Those of the last ask."""
    day: int = 0
    spent: dict[Effort, int] = field(default_factory=dict)
    leases: dict[str, tuple[Ask, int, int]] = field(default_factory=dict)
    """By request id: the ask, its day, and when the lease expires; in order of expiry."""


class MemoryLimits:
    """The `LimitStore` in memory.

    ``clock`` returns seconds of the epoch. Each call runs without awaiting anything, so that it is one atomic
    step on the event loop. A settle after the lease has expired changes nothing: the reserved tokens stay
    charged.
    """

    def __init__(self, clock: Callable[[], float], *, max_request_s: float) -> None:
        self._clock = clock
        self._lease_us = int((max_request_s + LEASE_GRACE_S) * 1_000_000)
        self._tenants: dict[str, _Tenant] = {}
        self._swept_us = 0

    async def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Take all that ``ask`` wants in one step, or nothing.

        Raises ``ValueError`` when its request id holds a reservation already.
        """
        now_us = self._now_us()
        self._sweep(now_us)
        tenant = self._tenants.setdefault(ask.tenant, _Tenant())
        tenant.limits = ask.limits
        self._catch_up(tenant, now_us)
        if ask.request_id in tenant.leases:
            raise ValueError(f"request {ask.request_id} holds a reservation already")
        tenant.account, decision = reserve(self._account(tenant, ask), ask, now_us)
        if isinstance(decision, Reservation):
            self._note_spent(tenant, ask)
            tenant.leases[ask.request_id] = (ask, tenant.day, now_us + self._lease_us)
        return decision

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Correct the reservation to the ``tokens`` used, refund or debt, and free its slot. Idempotent."""
        now_us = self._now_us()
        tenant = self._tenants.get(reservation.ask.tenant)
        if tenant is None:
            return
        self._catch_up(tenant, now_us)
        if reservation.ask.request_id not in tenant.leases:
            return
        ask, day, _ = tenant.leases[reservation.ask.request_id]
        tenant.account = settle(self._account(tenant, ask), ask, tokens=tokens, now_us=now_us)
        del tenant.leases[ask.request_id]
        if day == tenant.day:  # yesterday's budget is closed; its refund must not enlarge today's
            self._note_spent(tenant, ask)

    @property
    def tenants(self) -> int:
        """Number of tenants that are remembered."""
        return len(self._tenants)

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    def _catch_up(self, tenant: _Tenant, now_us: int) -> None:
        """Let expired leases go, and start the day's budgets anew at midnight."""
        while tenant.leases:
            request_id = next(iter(tenant.leases))
            if tenant.leases[request_id][2] > now_us:
                break
            del tenant.leases[request_id]
        if day_of(now_us) > tenant.day:
            tenant.day = day_of(now_us)
            tenant.spent.clear()

    @staticmethod
    def _account(tenant: _Tenant, ask: Ask) -> Account:
        held = tenant.account
        return Account(held.requests, held.tokens, len(tenant.leases), tenant.spent.get(ask.effort, 0))

    @staticmethod
    def _note_spent(tenant: _Tenant, ask: Ask) -> None:
        if ask.limits.tokens_per_day is not None:
            tenant.spent[ask.effort] = tenant.account.spent

    def _sweep(self, now_us: int) -> None:
        if now_us - self._swept_us < SWEEP_EVERY_US:
            return
        self._swept_us = now_us
        for name, tenant in list(self._tenants.items()):
            self._catch_up(tenant, now_us)
            if self._idle(tenant, now_us):
                del self._tenants[name]

    @staticmethod
    def _idle(tenant: _Tenant, now_us: int) -> bool:
        limits, account = tenant.limits, tenant.account
        return (
            limits is not None
            and not tenant.leases
            and not tenant.spent
            and full(account.requests, limits.requests_per_min, now_us)
            and full(account.tokens, limits.tokens_per_min, now_us)
        )
