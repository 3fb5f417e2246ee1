"""Facts about limits kept in memory."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.limits import Limits, Reservation
from cluster.stores.memory_limits import MemoryLimits
from tests.stores.limit_store_suite import LEASE_S, MAX_REQUEST_S, Clock, LimitStoreSuite, admitted, ask


class TestMemoryLimits(LimitStoreSuite):
    """What every store keeps."""

    @pytest.fixture
    def store(self, clock: Clock) -> MemoryLimits:
        return MemoryLimits(clock, max_request_s=MAX_REQUEST_S)


async def test_idle_tenants_are_forgotten() -> None:
    """A tenant whose limits are full again, without a request or a budget in use, costs no memory."""
    clock = Clock()
    store = MemoryLimits(clock, max_request_s=MAX_REQUEST_S)
    limits = Limits(requests_per_min=5, tokens_per_min=100, concurrent=1, tokens_per_day=None)
    for index in range(1000):
        reservation = await admitted(store, ask(10, tenant=f"t{index}", base=limits))
        store.settle(reservation, tokens=10)
    holding = await admitted(store, ask(10, tenant="holding", base=limits))
    spent = await admitted(store, ask(10, tenant="spent", tokens_per_day=100))
    store.settle(spent, tokens=10)
    clock.advance(61)
    await admitted(store, ask(tenant="new", base=limits))
    assert store.books == 3  # holding, spent and new
    store.settle(holding, tokens=10)


async def test_an_abandoned_tenant_is_forgotten() -> None:
    """A tenant whose requests were never settled is forgotten once their leases have expired."""
    clock = Clock()
    store = MemoryLimits(clock, max_request_s=MAX_REQUEST_S)
    abandoned = await admitted(store, ask(tenant="gone", concurrent=1))
    clock.advance(LEASE_S)
    await admitted(store, ask(tenant="new"))
    assert store.books == 1
    store.settle(abandoned, tokens=5)
    assert store.books == 1


events = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 60), st.integers(0, 120), st.booleans()), max_size=60
)


@given(events)
def test_whatever_happens_slots_and_budget_hold(history: list[tuple[int, int, int, bool]]) -> None:
    """In any order of reserves and settles, some repeated, slots and budget are never exceeded or lost."""
    asyncio.run(_play(history))


async def _play(history: list[tuple[int, int, int, bool]]) -> None:
    clock = Clock()
    store = MemoryLimits(clock, max_request_s=MAX_REQUEST_S)
    held: list[Reservation] = []
    ended: list[tuple[Reservation, int]] = []
    for step_s, wanted, used, end_one in history:
        clock.advance(step_s)
        if end_one and held:
            reservation = held.pop()
            ended.append((reservation, used))
            for _ in range(2):
                store.settle(reservation, tokens=used)
        spent = sum(used for _, used in ended) + sum(one.ask.tokens for one in held)
        decision = await store.reserve(ask(wanted, concurrent=3, tokens_per_day=500))
        room = len(held) < 3 and spent + wanted <= 500
        assert isinstance(decision, Reservation) == room
        if isinstance(decision, Reservation):
            held.append(decision)
