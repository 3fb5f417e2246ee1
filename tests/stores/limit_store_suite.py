"""The facts that every `LimitStore` keeps; each adapter runs this suite."""

import asyncio
import math
from itertools import count

import pytest

from cluster.core.effort import EFFORTS, Effort
from cluster.core.limits import Ask, Limits, LimitView, Refusal, Reservation
from cluster.gateway.ports import LimitStore

NO_LIMITS = Limits(requests_per_min=None, tokens_per_min=None, concurrent=None, tokens_per_day=None)
MAX_REQUEST_S = 1800
LEASE_S = MAX_REQUEST_S + 60
MIDNIGHT_S = 20_000 * 86_400.0

_ids = count()


class Clock:
    """Seconds of the epoch, which pass only when told to. Starts at noon UTC."""

    def __init__(self) -> None:
        self.now = MIDNIGHT_S + 43_200

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def ask(
    tokens: int = 0,
    *,
    tenant: str = "ads",
    key_id: str = "key00001",
    effort: Effort = "low",
    base: Limits = NO_LIMITS,
    own: Limits | None = None,
    **limits: int,
) -> Ask:
    """Return an ask under an id of its own, with the tenant's limits named and the key's ``own``."""
    return Ask(
        request_id=f"r{next(_ids)}",
        tenant=tenant,
        key_id=key_id,
        effort=effort,
        tokens=tokens,
        limits=(base._replace(**limits), *([own] if own else ())),
    )


async def admitted(store: LimitStore, request: Ask) -> Reservation:
    """Reserve what must be admitted."""
    decision = await store.reserve(request)
    assert isinstance(decision, Reservation), decision
    return decision


async def refused(store: LimitStore, request: Ask) -> Refusal:
    """Reserve what must be refused."""
    decision = await store.reserve(request)
    assert isinstance(decision, Refusal), decision
    return decision


class LimitStoreSuite:
    """Subclass it in an adapter's tests, with a fixture ``store`` that runs on the ``clock``."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    async def test_requests_refill(self, store: LimitStore, clock: Clock) -> None:
        """A minute's requests may come at once; then one more each time enough of the minute has gone by."""
        for _ in range(3):
            await admitted(store, ask(requests_per_min=3))
        refusal = await refused(store, ask(requests_per_min=3))
        assert (refusal.limit, refusal.retry_after_s) == ("requests", 20)
        clock.advance(20)
        await admitted(store, ask(requests_per_min=3))
        await refused(store, ask(requests_per_min=3))

    async def test_tokens_refill(self, store: LimitStore, clock: Clock) -> None:
        """Tokens are admitted by the minute's worth too, and refill with time."""
        await admitted(store, ask(500, tokens_per_min=600))
        refusal = await refused(store, ask(200, tokens_per_min=600))
        assert (refusal.limit, refusal.retry_after_s) == ("tokens", 10)
        clock.advance(10)
        await admitted(store, ask(200, tokens_per_min=600))

    async def test_concurrency(self, store: LimitStore) -> None:
        """A slot is held from the reserve to the settle."""
        first = await admitted(store, ask(concurrent=2))
        await admitted(store, ask(concurrent=2))
        assert (await refused(store, ask(concurrent=2))).limit == "concurrent"
        store.settle(first, tokens=0)
        await admitted(store, ask(concurrent=2))
        await refused(store, ask(concurrent=2))

    async def test_all_or_nothing(self, store: LimitStore) -> None:
        """An ask that one limit refuses takes nothing from the others."""
        limits = Limits(requests_per_min=2, tokens_per_min=100, concurrent=2, tokens_per_day=1000)
        for _ in range(5):
            assert (await refused(store, ask(101, base=limits))).limit == "tokens"
        for _ in range(2):
            await admitted(store, ask(50, base=limits))

    async def test_refund(self, store: LimitStore) -> None:
        """Tokens that were reserved and not used come back at the settle."""
        reservation = await admitted(store, ask(100, tokens_per_min=100, tokens_per_day=100))
        store.settle(reservation, tokens=30)
        await refused(store, ask(71, tokens_per_min=100, tokens_per_day=100))
        await admitted(store, ask(70, tokens_per_min=100, tokens_per_day=100))

    async def test_debt(self, store: LimitStore, clock: Clock) -> None:
        """Tokens used beyond the reservation are owed, and refilled before anything else is admitted."""
        reservation = await admitted(store, ask(100, tokens_per_min=100))
        store.settle(reservation, tokens=200)
        refusal = await refused(store, ask(0, requests_per_min=10, tokens_per_min=100))
        assert refusal.tokens == LimitView(limit=100, remaining=0, reset_s=120)
        clock.advance(120)
        await admitted(store, ask(100, tokens_per_min=100))

    async def test_settle_once(self, store: LimitStore) -> None:
        """A second settle of the same reservation changes nothing."""
        reservation = await admitted(store, ask(50, tokens_per_min=100, concurrent=1))
        store.settle(reservation, tokens=50)
        store.settle(reservation, tokens=0)
        await admitted(store, ask(50, tokens_per_min=100, concurrent=1))
        assert (await refused(store, ask(1, tokens_per_min=100))).limit == "tokens"
        store.settle(reservation, tokens=0)
        assert (await refused(store, ask(0, concurrent=1))).limit == "concurrent"

    async def test_lease_expires(self, store: LimitStore, clock: Clock) -> None:
        """A slot that nobody settles is free again a minute after the longest request, and not before."""
        await admitted(store, ask(concurrent=1))
        clock.advance(LEASE_S - 1)
        await refused(store, ask(concurrent=1))
        clock.advance(1)
        await admitted(store, ask(concurrent=1))

    async def test_settle_after_expiry(self, store: LimitStore, clock: Clock) -> None:
        """A settle that comes after its lease has expired neither frees a slot nor refunds."""
        late = await admitted(store, ask(60, concurrent=1, tokens_per_day=100))
        clock.advance(LEASE_S)
        await admitted(store, ask(0, concurrent=1, tokens_per_day=100))
        store.settle(late, tokens=0)
        await refused(store, ask(0, concurrent=1, tokens_per_day=100))
        assert (await refused(store, ask(41, tokens_per_day=100))).limit == "budget"

    async def test_budgets_are_per_effort(self, store: LimitStore) -> None:
        """The day's tokens of one effort do not count against those of another."""
        await admitted(store, ask(100, effort="high", tokens_per_day=100))
        await refused(store, ask(1, effort="high", tokens_per_day=100))
        await admitted(store, ask(100, effort="low", tokens_per_day=100))

    async def test_budgets_start_anew_at_midnight(self, store: LimitStore, clock: Clock) -> None:
        """A spent budget is refused until midnight UTC, when it is whole again."""
        await admitted(store, ask(100, tokens_per_day=100))
        refusal = await refused(store, ask(1, tokens_per_day=100))
        assert (refusal.limit, refusal.retry_after_s) == ("budget", 43_200)
        clock.advance(43_200)
        await admitted(store, ask(100, tokens_per_day=100))

    async def test_every_effort_starts_anew(self, store: LimitStore, clock: Clock) -> None:
        """At midnight the budgets of all efforts are whole again, whichever is used first."""
        for effort in EFFORTS:
            await admitted(store, ask(100, effort=effort, tokens_per_day=100))
        clock.advance(43_200)
        for effort in EFFORTS:
            await admitted(store, ask(100, effort=effort, tokens_per_day=100))

    async def test_yesterdays_refund_is_void(self, store: LimitStore, clock: Clock) -> None:
        """A refund of a reservation made before midnight does not enlarge the new day's budget."""
        clock.advance(43_199)
        before = await admitted(store, ask(100, tokens_per_day=100))
        clock.advance(2)
        await admitted(store, ask(100, tokens_per_day=100))
        store.settle(before, tokens=0)
        await refused(store, ask(1, tokens_per_day=100))

    async def test_tenants_are_apart(self, store: LimitStore) -> None:
        """One tenant's use leaves another's limits alone."""
        await admitted(store, ask(tenant="ads", requests_per_min=1, concurrent=1))
        await refused(store, ask(tenant="ads", requests_per_min=1, concurrent=1))
        await admitted(store, ask(tenant="search", requests_per_min=1, concurrent=1))

    async def test_a_key_has_limits_of_its_own(self, store: LimitStore) -> None:
        """A key's own limits hold beside its tenant's, and leave the tenant's other keys alone."""
        own = NO_LIMITS._replace(requests_per_min=1, concurrent=1)
        first = await admitted(store, ask(requests_per_min=3, own=own))
        refusal = await refused(store, ask(requests_per_min=3, own=own))
        assert (refusal.limit, refusal.level) == ("requests", "key")
        await admitted(store, ask(requests_per_min=3, key_id="key00002", own=own))
        await admitted(store, ask(requests_per_min=3, key_id="key00003"))
        assert (await refused(store, ask(requests_per_min=3, key_id="key00003"))).level == "tenant"
        free = own._replace(requests_per_min=None)
        assert (await refused(store, ask(own=free))).limit == "concurrent"
        store.settle(first, tokens=0)
        await admitted(store, ask(own=free))

    async def test_every_level_is_settled(self, store: LimitStore) -> None:
        """A settle refunds the tenant and the key alike, and frees the slot of both."""
        own = Limits(requests_per_min=None, tokens_per_min=100, concurrent=1, tokens_per_day=150)
        held = await admitted(store, ask(100, own=own, tokens_per_min=1000))
        store.settle(held, tokens=40)
        refusal = await refused(store, ask(61, own=own, tokens_per_min=1000))
        assert refusal.tokens is not None
        assert (refusal.level, refusal.tokens.limit, refusal.tokens.remaining) == ("key", 100, 60)
        held = await admitted(store, ask(60, own=own, tokens_per_min=960))
        store.settle(held, tokens=60)
        assert (await refused(store, ask(51, own=own._replace(tokens_per_min=None)))).limit == "budget"

    async def test_one_level_refuses_for_all(self, store: LimitStore) -> None:
        """What the key's limit refuses takes nothing from the tenant."""
        own = NO_LIMITS._replace(tokens_per_min=10)
        for _ in range(5):
            assert (await refused(store, ask(11, own=own, requests_per_min=1))).level == "key"
        await admitted(store, ask(10, own=own, requests_per_min=1))

    async def test_too_large_for_ever(self, store: LimitStore) -> None:
        """An ask beyond a whole limit is refused, and told that waiting does not help."""
        assert (await refused(store, ask(101, tokens_per_min=100))).retry_after_s == math.inf

    async def test_views(self, store: LimitStore) -> None:
        """A reservation shows what is left of requests and tokens, as OpenAI's headers do."""
        reservation = await admitted(store, ask(24, requests_per_min=5000, tokens_per_min=160_000))
        assert reservation.requests == LimitView(limit=5000, remaining=4999, reset_s=0.012)
        assert reservation.tokens == LimitView(limit=160_000, remaining=159_976, reset_s=0.009)

    async def test_without_limits(self, store: LimitStore) -> None:
        """A tenant without limits is never refused."""
        for _ in range(50):
            reservation = await admitted(store, ask(10**9))
            assert (reservation.requests, reservation.tokens) == (None, None)

    async def test_a_crowd_at_once(self, store: LimitStore) -> None:
        """Of a thousand that ask at once, exactly as many get in as there is room for."""
        decisions = await asyncio.gather(*(store.reserve(ask(7, tokens_per_min=700)) for _ in range(1000)))
        assert sum(isinstance(decision, Reservation) for decision in decisions) == 100

    async def test_a_request_reserves_once(self, store: LimitStore) -> None:
        """Reserving twice under one request id is a mistake of the caller, and is said so."""
        request = ask()
        await store.reserve(request)
        with pytest.raises(ValueError, match="holds a reservation already"):
            await store.reserve(request)
