"""Facts about limits, as pure decisions."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.limits import (
    DAY_US,
    MAX_DEBT,
    MAX_PER_MIN,
    UNIT,
    Account,
    Ask,
    LimitName,
    Limits,
    LimitView,
    Refusal,
    Reservation,
    full,
    refill,
    reserve,
    settle,
)

NO_LIMITS = Limits(requests_per_min=None, tokens_per_min=None, concurrent=None, tokens_per_day=None)
START_US = 20_000 * DAY_US
SECOND_US = 1_000_000


def ask(tokens: int = 1, *limits: Limits) -> Ask:
    """Return an ask of one tenant, and of one key where two levels are given."""
    return Ask("r", "t", "k", effort="low", tokens=tokens, limits=limits or (NO_LIMITS,))


def reserve_one(account: Account, request: Ask, now_us: int) -> tuple[Account, Reservation | Refusal]:
    """Reserve where the tenant alone has limits."""
    accounts, decision = reserve([account], request, now_us)
    return accounts[0], decision


limits_strategy = st.builds(
    Limits,
    requests_per_min=st.none() | st.integers(1, 20),
    tokens_per_min=st.none() | st.integers(1, 1000),
    concurrent=st.none() | st.integers(1, 5),
    tokens_per_day=st.none() | st.integers(1, 5000),
)
levels_strategy = st.lists(limits_strategy, min_size=1, max_size=2)
steps_us = st.integers(0, 90 * SECOND_US)
tokens_strategy = st.integers(0, 400)
accounts_strategy = st.builds(
    Account,
    requests=st.none() | st.integers(-5 * UNIT, 20 * UNIT),
    tokens=st.none() | st.integers(-500 * UNIT, 1000 * UNIT),
    at_us=st.just(START_US),
    in_flight=st.integers(0, 6),
    spent=st.integers(0, 6000),
)


@given(levels_strategy, st.lists(st.tuples(steps_us, tokens_strategy), max_size=40))
def test_never_over_admits(levels: list[Limits], steps: list[tuple[int, int]]) -> None:
    """Whatever is asked when, no level admits more than bursts and rates, slots and budget allow."""
    accounts: Sequence[Account] = [Account() for _ in levels]
    now_us, requests, tokens = START_US, 0, 0
    for step_us, wanted in steps:
        now_us += step_us
        accounts, decision = reserve(accounts, ask(wanted, *levels), now_us)
        if isinstance(decision, Reservation):
            requests, tokens = requests + 1, tokens + wanted
        elapsed_us = now_us - START_US
        for limits in levels:
            for taken, limit in ((requests, limits.requests_per_min), (tokens, limits.tokens_per_min)):
                assert limit is None or taken * UNIT <= limit * (UNIT + elapsed_us)
            assert limits.concurrent is None or requests <= limits.concurrent
            assert limits.tokens_per_day is None or tokens <= limits.tokens_per_day


@given(
    st.lists(st.tuples(accounts_strategy, limits_strategy), min_size=1, max_size=2), tokens_strategy, steps_us
)
def test_all_or_nothing(levels: list[tuple[Account, Limits]], wanted: int, step_us: int) -> None:
    """An ask takes a request, its tokens, a slot and budget from every level together, or nothing of any."""
    now_us = START_US + step_us
    before = [account for account, _ in levels]
    after, decision = reserve(before, ask(wanted, *(limits for _, limits in levels)), now_us)
    if isinstance(decision, Refusal):
        assert after == before
        return
    for (account, limits), taken in zip(levels, after, strict=True):
        refilled = refill(account, limits, now_us)
        assert taken.in_flight - account.in_flight == 1
        assert taken.spent - account.spent == wanted
        for was, now_is, amount in (
            (refilled.requests, taken.requests, 1),
            (refilled.tokens, taken.tokens, wanted),
        ):
            assert now_is == (None if was is None else was - amount * UNIT)


@given(accounts_strategy, limits_strategy, st.lists(steps_us, max_size=5))
def test_refills_add_up(account: Account, limits: Limits, steps: list[int]) -> None:
    """A bucket that is looked at often holds what it would hold if it had been looked at once."""
    now_us, often = START_US, refill(account, limits, START_US)
    for step_us in steps:
        now_us += step_us
        often = refill(often, limits, now_us)
    assert often == refill(account, limits, now_us)


@given(accounts_strategy, levels_strategy, tokens_strategy)
def test_the_wait_is_true(account: Account, levels: list[Limits], wanted: int) -> None:
    """After the wait that a refusal names, and not a moment earlier, the same ask is admitted."""
    before = [account._replace(spent=0) for _ in levels]
    request = ask(wanted, *(limits._replace(concurrent=None) for limits in levels))
    _, refusal = reserve(before, request, START_US)
    if not isinstance(refusal, Refusal) or refusal.retry_after_s == math.inf:
        return
    wait_us = round(refusal.retry_after_s * SECOND_US)
    early = reserve(before, request, START_US + wait_us - 1)[1]
    late = reserve(before, request, START_US + wait_us)[1]
    assert isinstance(early, Refusal)
    assert isinstance(late, Reservation)


@given(accounts_strategy, limits_strategy, tokens_strategy, st.integers(0, 2000))
def test_settle_charges_what_was_used(account: Account, limits: Limits, wanted: int, used: int) -> None:
    """After a settle the bucket and the budget are charged what was used, not what was reserved."""
    account = account._replace(in_flight=0, spent=0)
    held, decision = reserve_one(account, ask(wanted, limits), START_US)
    if not isinstance(decision, Reservation):
        return
    settled = settle(held, limits, reserved=wanted, used=used, now_us=START_US)
    assert (settled.in_flight, settled.spent) == (0, used)
    if settled.tokens is not None and held.tokens is not None and limits.tokens_per_min is not None:
        expected = held.tokens + (wanted - used) * UNIT
        assert settled.tokens == min(limits.tokens_per_min * UNIT, expected)


def test_admissions_are_exact_under_pressure() -> None:
    """Asked every millisecond for 100 s, exactly floor(burst + rate x elapsed) requests are admitted."""
    limits = NO_LIMITS._replace(requests_per_min=7)
    account, admitted = Account(), 0
    for millisecond in range(100_001):
        account, decision = reserve_one(account, ask(1, limits), START_US + millisecond * 1000)
        admitted += isinstance(decision, Reservation)
    assert admitted == 7 + int(7 / 60 * 100)


@pytest.mark.parametrize(
    ("limits", "account", "name", "wait_s"),
    [
        pytest.param(
            NO_LIMITS._replace(requests_per_min=3),
            Account(requests=0, at_us=START_US),
            "requests",
            20,
            id="requests",
        ),
        pytest.param(
            NO_LIMITS._replace(tokens_per_min=600),
            Account(tokens=40 * UNIT, at_us=START_US),
            "tokens",
            6,
            id="tokens",
        ),
        pytest.param(
            NO_LIMITS._replace(concurrent=2), Account(in_flight=2), "concurrent", 1, id="concurrent"
        ),
        pytest.param(
            NO_LIMITS._replace(tokens_per_day=500),
            Account(spent=401),
            "budget",
            86_400,
            id="budget-of-the-day",
        ),
        pytest.param(
            Limits(requests_per_min=3, tokens_per_min=600, concurrent=2, tokens_per_day=None),
            Account(requests=0, tokens=0, at_us=START_US, in_flight=2),
            "requests",
            20,
            id="the-longest-wait-is-named",
        ),
    ],
)
def test_refusals_name_their_limit(limits: Limits, account: Account, name: LimitName, wait_s: float) -> None:
    """A refusal names the limit that stands in the way longest, and when to come back."""
    _, decision = reserve_one(account, ask(100, limits), START_US)
    assert isinstance(decision, Refusal)
    assert (decision.limit, decision.level, decision.retry_after_s) == (name, "tenant", wait_s)


def test_a_refusal_names_its_level() -> None:
    """Where the key's own limit is in the way, the refusal says so."""
    limits = (NO_LIMITS._replace(requests_per_min=3), NO_LIMITS._replace(requests_per_min=1))
    accounts, _ = reserve([Account(), Account()], ask(1, *limits), START_US)
    _, decision = reserve(accounts, ask(1, *limits), START_US)
    assert isinstance(decision, Refusal)
    assert (decision.limit, decision.level, decision.retry_after_s) == ("requests", "key", 60)


def test_the_tightest_level_is_shown() -> None:
    """Of the tenant's and the key's limits the one with less left is shown, for each kind."""
    tenant = NO_LIMITS._replace(requests_per_min=10, tokens_per_min=500)
    key = NO_LIMITS._replace(requests_per_min=600, tokens_per_min=200)
    _, decision = reserve([Account(), Account()], ask(100, tenant, key), START_US)
    assert decision.requests == LimitView(limit=10, remaining=9, reset_s=6)
    assert decision.tokens == LimitView(limit=200, remaining=100, reset_s=30)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(NO_LIMITS._replace(tokens_per_min=99), id="minute"),
        pytest.param(NO_LIMITS._replace(tokens_per_day=99), id="day"),
    ],
)
def test_waiting_does_not_shrink_a_request(limits: Limits) -> None:
    """A request larger than a whole limit is refused, and is told that a retry does not help."""
    _, decision = reserve_one(Account(), ask(100, limits), START_US)
    assert isinstance(decision, Refusal)
    assert decision.retry_after_s == math.inf


def test_debt_delays_the_next() -> None:
    """Tokens used beyond the reservation put the bucket into debt, which must be refilled first."""
    limits = NO_LIMITS._replace(tokens_per_min=600)
    request = ask(100, limits)
    account, _ = reserve_one(Account(), request, START_US)
    account = settle(account, limits, reserved=100, used=1200, now_us=START_US)
    _, decision = reserve_one(account, request, START_US)
    assert isinstance(decision, Refusal)
    assert decision.retry_after_s == pytest.approx(70)
    assert decision.tokens == LimitView(limit=600, remaining=0, reset_s=120)


def test_headers_show_what_is_left() -> None:
    """A reservation shows limit, whole units left, and the time until full."""
    limits = Limits(requests_per_min=5000, tokens_per_min=160_000, concurrent=None, tokens_per_day=None)
    _, decision = reserve_one(Account(), ask(24, limits), START_US)
    assert decision.requests == LimitView(limit=5000, remaining=4999, reset_s=0.012)
    assert decision.tokens == LimitView(limit=160_000, remaining=159_976, reset_s=0.009)


def test_no_limit_no_view() -> None:
    """Without limits everything is admitted, and there is nothing to show."""
    account, decision = reserve_one(Account(), ask(10**12), START_US)
    assert decision == Reservation(ask=ask(10**12), requests=None, tokens=None)
    assert account.in_flight == 1


def test_a_lowered_limit_binds_at_once() -> None:
    """A bucket that is fuller than a new, lower limit is cut to it."""
    account = Account(requests=100 * UNIT, at_us=START_US)
    account, _ = reserve_one(account, ask(1, NO_LIMITS._replace(requests_per_min=2)), START_US)
    assert account.requests == UNIT


def test_debt_has_an_end() -> None:
    """Debt stops at a bound, so that every sum stays exact in doubles too."""
    limits = NO_LIMITS._replace(tokens_per_min=MAX_PER_MIN)
    account = settle(Account(), limits, reserved=0, used=10**12, now_us=START_US)
    assert account.tokens == -MAX_DEBT * UNIT
    assert MAX_PER_MIN * UNIT + MAX_DEBT * UNIT < 2**53


def test_a_clock_set_back_gives_and_takes_nothing() -> None:
    """When the clock goes back, the bucket stays as it is until the clock has caught up."""
    limits = NO_LIMITS._replace(requests_per_min=60)
    account, _ = reserve_one(Account(), ask(1, limits), START_US)
    back, _ = reserve_one(account, ask(1, limits), START_US - 3600 * SECOND_US)
    assert (back.requests, back.at_us) == (58 * UNIT, START_US)


@pytest.mark.parametrize(
    ("account", "limit", "expected"),
    [
        pytest.param(Account(), 5, True, id="never-used"),
        pytest.param(Account(requests=0, at_us=START_US), None, True, id="no-limit"),
        pytest.param(Account(requests=0, at_us=START_US - 60 * SECOND_US), 5, True, id="refilled"),
        pytest.param(Account(requests=0, at_us=START_US - 59 * SECOND_US), 5, False, id="not-yet"),
    ],
)
def test_full_accounts_can_be_forgotten(account: Account, limit: int | None, expected: bool) -> None:
    """An account counts as full once a minute's refill has gone by, or when there is no limit."""
    assert full(account, NO_LIMITS._replace(requests_per_min=limit), START_US) is expected
