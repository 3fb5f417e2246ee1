"""Facts about limits, as pure decisions."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.limits import (
    DAY_US,
    UNIT,
    Account,
    Ask,
    Bucket,
    LimitName,
    Limits,
    LimitView,
    Refusal,
    Reservation,
    full,
    reserve,
    settle,
)

NO_LIMITS = Limits(requests_per_min=None, tokens_per_min=None, concurrent=None, tokens_per_day=None)
START_US = 20_000 * DAY_US
SECOND_US = 1_000_000


def ask(tokens: int = 1, limits: Limits = NO_LIMITS) -> Ask:
    """Return an ask of one tenant."""
    return Ask(request_id="r", tenant="t", effort="low", tokens=tokens, limits=limits)


limits_strategy = st.builds(
    Limits,
    requests_per_min=st.none() | st.integers(1, 20),
    tokens_per_min=st.none() | st.integers(1, 1000),
    concurrent=st.none() | st.integers(1, 5),
    tokens_per_day=st.none() | st.integers(1, 5000),
)
steps_us = st.integers(0, 90 * SECOND_US)
tokens_strategy = st.integers(0, 400)
accounts = st.builds(
    Account,
    requests=st.none() | st.builds(Bucket, st.integers(-5 * UNIT, 20 * UNIT), st.just(START_US)),
    tokens=st.none() | st.builds(Bucket, st.integers(-500 * UNIT, 1000 * UNIT), st.just(START_US)),
    in_flight=st.integers(0, 6),
    spent=st.integers(0, 6000),
)


@given(limits_strategy, st.lists(st.tuples(steps_us, tokens_strategy), max_size=40))
def test_never_over_admits(limits: Limits, steps: list[tuple[int, int]]) -> None:
    """Whatever is asked when, no more is admitted than bursts and rates, slots and budget allow."""
    account, now_us, requests, tokens = Account(), START_US, 0, 0
    for step_us, wanted in steps:
        now_us += step_us
        account, decision = reserve(account, ask(wanted, limits), now_us)
        if isinstance(decision, Reservation):
            requests, tokens = requests + 1, tokens + wanted
        elapsed_us = now_us - START_US
        for taken, limit in ((requests, limits.requests_per_min), (tokens, limits.tokens_per_min)):
            assert limit is None or taken * UNIT <= limit * (UNIT + elapsed_us)
        assert limits.concurrent is None or requests <= limits.concurrent
        assert limits.tokens_per_day is None or tokens <= limits.tokens_per_day


@given(accounts, limits_strategy, tokens_strategy, steps_us)
def test_all_or_nothing(account: Account, limits: Limits, wanted: int, step_us: int) -> None:
    """An ask takes one request, its tokens, a slot and budget together, or leaves all as they were."""
    now_us = START_US + step_us
    request = ask(wanted, limits)
    # a second look at the same moment takes nothing by itself
    before, _ = reserve(replace(account, in_flight=10**6), ask(0, replace(limits, concurrent=1)), now_us)
    after, decision = reserve(account, request, now_us)
    took = isinstance(decision, Reservation)
    assert after.in_flight - account.in_flight == took
    assert after.spent - account.spent == took * wanted
    for was, now_is, amount in (
        (before.requests, after.requests, 1),
        (before.tokens, after.tokens, wanted),
    ):
        assert (was is None) == (now_is is None)
        if was is not None and now_is is not None:
            assert was.level - now_is.level == took * amount * UNIT


@given(accounts, limits_strategy, tokens_strategy)
def test_the_wait_is_true(account: Account, limits: Limits, wanted: int) -> None:
    """After the wait that a refusal names, and not a moment earlier, the same ask is admitted."""
    limits = replace(limits, concurrent=None)
    account = replace(account, spent=0)
    request = ask(wanted, limits)
    account, refusal = reserve(account, request, START_US)
    if not isinstance(refusal, Refusal) or refusal.retry_after_s == math.inf:
        return
    wait_us = round(refusal.retry_after_s * SECOND_US)
    early = reserve(account, request, START_US + wait_us - 1)[1]
    late = reserve(account, request, START_US + wait_us)[1]
    assert isinstance(early, Refusal)
    assert isinstance(late, Reservation)


@given(accounts, limits_strategy, tokens_strategy, st.integers(0, 2000), steps_us)
def test_settle_charges_what_was_used(
    account: Account, limits: Limits, wanted: int, used: int, step_us: int
) -> None:
    """After a settle the bucket and the budget are charged what was used, not what was reserved."""
    account = replace(account, in_flight=0, spent=0)
    request = ask(wanted, limits)
    held, decision = reserve(account, request, START_US)
    if not isinstance(decision, Reservation):
        return
    settled = settle(held, request, tokens=used, now_us=START_US)
    assert (settled.in_flight, settled.spent) == (0, used)
    if settled.tokens is not None and held.tokens is not None and limits.tokens_per_min is not None:
        expected = held.tokens.level + (wanted - used) * UNIT
        assert settled.tokens.level == min(limits.tokens_per_min * UNIT, expected)


def test_admissions_are_exact_under_pressure() -> None:
    """Asked every millisecond for 100 s, exactly floor(burst + rate x elapsed) requests are admitted."""
    limits = replace(NO_LIMITS, requests_per_min=7)
    account, admitted = Account(), 0
    for millisecond in range(100_001):
        account, decision = reserve(account, ask(limits=limits), START_US + millisecond * 1000)
        admitted += isinstance(decision, Reservation)
    assert admitted == 7 + int(7 / 60 * 100)


@pytest.mark.parametrize(
    ("limits", "account", "name", "wait_s"),
    [
        pytest.param(
            replace(NO_LIMITS, requests_per_min=3),
            Account(requests=Bucket(0, START_US)),
            "requests",
            20,
            id="requests",
        ),
        pytest.param(
            replace(NO_LIMITS, tokens_per_min=600),
            Account(tokens=Bucket(40 * UNIT, START_US)),
            "tokens",
            6,
            id="tokens",
        ),
        pytest.param(
            replace(NO_LIMITS, concurrent=2), Account(in_flight=2), "concurrent", 1, id="concurrent"
        ),
        pytest.param(
            replace(NO_LIMITS, tokens_per_day=500),
            Account(spent=401),
            "budget",
            86_400,
            id="budget-of-the-day",
        ),
        pytest.param(
            Limits(requests_per_min=3, tokens_per_min=600, concurrent=2, tokens_per_day=None),
            Account(requests=Bucket(0, START_US), tokens=Bucket(0, START_US), in_flight=2),
            "requests",
            20,
            id="the-longest-wait-is-named",
        ),
    ],
)
def test_refusals_name_their_limit(limits: Limits, account: Account, name: LimitName, wait_s: float) -> None:
    """A refusal names the limit that stands in the way longest, and when to come back."""
    _, decision = reserve(account, ask(100, limits), START_US)
    assert isinstance(decision, Refusal)
    assert (decision.limit, decision.retry_after_s) == (name, wait_s)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(replace(NO_LIMITS, tokens_per_min=99), id="minute"),
        pytest.param(replace(NO_LIMITS, tokens_per_day=99), id="day"),
    ],
)
def test_waiting_does_not_shrink_a_request(limits: Limits) -> None:
    """A request larger than a whole limit is refused, and is told that a retry does not help."""
    _, decision = reserve(Account(), ask(100, limits), START_US)
    assert isinstance(decision, Refusal)
    assert decision.retry_after_s == math.inf


def test_debt_delays_the_next() -> None:
    """Tokens used beyond the reservation put the bucket into debt, which must be refilled first."""
    limits = replace(NO_LIMITS, tokens_per_min=600)
    request = ask(100, limits)
    account, _ = reserve(Account(), request, START_US)
    account = settle(account, request, tokens=1200, now_us=START_US)
    _, decision = reserve(account, request, START_US)
    assert isinstance(decision, Refusal)
    assert decision.retry_after_s == pytest.approx(70)
    assert decision.tokens == LimitView(limit=600, remaining=0, reset_s=120)


def test_headers_show_what_is_left() -> None:
    """A reservation shows limit, whole units left, and the time until full."""
    limits = Limits(requests_per_min=5000, tokens_per_min=160_000, concurrent=None, tokens_per_day=None)
    _, decision = reserve(Account(), ask(24, limits), START_US)
    assert decision.requests == LimitView(limit=5000, remaining=4999, reset_s=0.012)
    assert decision.tokens == LimitView(limit=160_000, remaining=159_976, reset_s=0.009)


def test_no_limit_no_view() -> None:
    """Without limits everything is admitted, and there is nothing to show."""
    account, decision = reserve(Account(), ask(10**12), START_US)
    assert decision == Reservation(ask=ask(10**12), requests=None, tokens=None)
    assert account.in_flight == 1


def test_a_lowered_limit_binds_at_once() -> None:
    """A bucket that is fuller than a new, lower limit is cut to it."""
    account = Account(requests=Bucket(100 * UNIT, START_US))
    account, _ = reserve(account, ask(limits=replace(NO_LIMITS, requests_per_min=2)), START_US)
    assert account.requests == Bucket(UNIT, START_US)


def test_a_clock_set_back_gives_and_takes_nothing() -> None:
    """When the clock goes back, the bucket stays as it is until the clock has caught up."""
    limits = replace(NO_LIMITS, requests_per_min=60)
    account, _ = reserve(Account(), ask(limits=limits), START_US)
    back, _ = reserve(account, ask(limits=limits), START_US - 3600 * SECOND_US)
    assert back.requests == Bucket(58 * UNIT, START_US)


@pytest.mark.parametrize(
    ("bucket", "limit", "expected"),
    [
        pytest.param(None, 5, True, id="never-used"),
        pytest.param(Bucket(0, START_US), None, True, id="no-limit"),
        pytest.param(Bucket(0, START_US - 60 * SECOND_US), 5, True, id="refilled"),
        pytest.param(Bucket(0, START_US - 59 * SECOND_US), 5, False, id="not-yet"),
    ],
)
def test_full_buckets_can_be_forgotten(bucket: Bucket | None, limit: int | None, expected: bool) -> None:
    """A bucket counts as full once a minute's refill has gone by, or when there is no limit."""
    assert full(bucket, limit, START_US) is expected
