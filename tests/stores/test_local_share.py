"""What a gateway's own share begins with when Redis has gone."""

import pytest

from cluster.core.limits import UNIT, Ask, Limits, Refusal, Reservation
from cluster.stores.local_share import Buckets, Budgets, LocalShare

LIMITS = Limits(requests_per_min=600, tokens_per_min=6000, concurrent=None, tokens_per_day=None)
OWN = LIMITS._replace(requests_per_min=60, tokens_per_min=None)


class Clock:
    """A clock that the test sets, in seconds of the epoch."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


def ask(number: int = 0, *, tokens: int = 1, limits: tuple[Limits, ...] = (LIMITS,)) -> Ask:
    """Return a request's ask."""
    return Ask(f"r{number}", "acme", "key00001", "low", tokens, limits)


def admits(clock: Clock, buckets: Buckets, *, parts: int = 2, limits: tuple[Limits, ...] = (LIMITS,)) -> int:
    """Return how many of 1,000 requests of a token a share admits at once."""
    share = LocalShare(
        clock, max_request_s=60, gateways=parts, running=(), budgets=Budgets(clock), buckets=buckets
    )
    return sum(isinstance(share.reserve(ask(number, limits=limits)), Reservation) for number in range(1000))


@pytest.mark.parametrize(
    ("requests", "later_s", "parts", "admitted"),
    [
        pytest.param(600, 0, 2, 300, id="full"),
        pytest.param(100, 0, 2, 50, id="half of what is left"),
        pytest.param(100, 0, 1, 100, id="all of it, alone"),
        pytest.param(100, 10, 2, 100, id="it has filled since"),
        pytest.param(100, 3600, 2, 300, id="never above the share"),
        pytest.param(0, 0, 2, 0, id="nothing is left"),
    ],
)
def test_a_share_begins_with_what_was_left(
    clock: Clock, requests: int, later_s: float, parts: int, admitted: int
) -> None:
    """As this gateway last saw it, and as it has filled since."""
    buckets = Buckets(clock)
    buckets.note(ask(), [(requests * UNIT, 6000 * UNIT)])
    clock.now_s += later_s
    assert admits(clock, buckets, parts=parts) == admitted


def test_what_was_never_seen_begins_full(clock: Clock) -> None:
    """Nothing is known of it."""
    assert admits(clock, Buckets(clock)) == 300


def test_debt_is_shared_too(clock: Clock) -> None:
    """A tenant in debt waits until its share has come back."""
    buckets = Buckets(clock)
    buckets.note(ask(), [(600 * UNIT, -2000 * UNIT)])
    share = LocalShare(
        clock, max_request_s=60, gateways=2, running=(), budgets=Budgets(clock), buckets=buckets
    )
    refused = share.reserve(ask(tokens=1))
    assert isinstance(refused, Refusal)
    assert refused.limit == "tokens"
    assert refused.retry_after_s == pytest.approx(1001 / 50, abs=0.1)


def test_each_level_begins_with_its_own(clock: Clock) -> None:
    """A key's bucket may be emptier than its tenant's; a limit that is not there has none."""
    buckets = Buckets(clock)
    both = (LIMITS, OWN)
    buckets.note(ask(limits=both), [(600 * UNIT, 6000 * UNIT), (10 * UNIT, 0)])
    assert admits(clock, buckets, limits=both) == 5


def test_it_fills_at_the_shares_rate(clock: Clock) -> None:
    """What is left is the beginning only."""
    buckets = Buckets(clock)
    buckets.note(ask(), [(0, 6000 * UNIT)])
    share = LocalShare(
        clock, max_request_s=60, gateways=2, running=(), budgets=Budgets(clock), buckets=buckets
    )
    assert isinstance(share.reserve(ask(0)), Refusal)
    clock.now_s += 6
    found = [isinstance(share.reserve(ask(number)), Reservation) for number in range(1, 100)]
    assert sum(found) == 30
