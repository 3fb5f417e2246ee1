"""The budget of second attempts."""

import pytest

from cluster.core.retries import ALWAYS_ALLOWED, SHARE_OF_ACTIVE, may_retry


@pytest.mark.parametrize(("retrying", "active", "allowed"), [
    (0, 1, True), (ALWAYS_ALLOWED - 1, ALWAYS_ALLOWED, True), (ALWAYS_ALLOWED, 50, False),
    (ALWAYS_ALLOWED, 51, True), (199, 1000, True), (200, 1000, False),
])  # fmt: skip
def test_the_budget_follows_the_load_above_a_floor(retrying: int, active: int, allowed: bool) -> None:
    """A fifth of what is active may be on its second attempt, and ten always."""
    assert may_retry(retrying=retrying, active=active) is allowed


def test_an_outage_costs_the_engines_a_fifth_more() -> None:
    """When every first attempt fails, the second ones stay within the share."""
    active, retrying = 1000, 0
    for _ in range(active):
        retrying += may_retry(retrying=retrying, active=active)
    assert retrying == SHARE_OF_ACTIVE * active
