"""Which requests count towards an error budget, and which of them have kept their objectives."""

from typing import Any

import pytest

from cluster.core.accounting import Outcome
from cluster.core.objectives import Objectives, kept

ALL = Objectives(wait_s=1.0, inter_token_s=0.05, total_s=60.0)
GOOD: dict[str, Any] = {"wait_s": 1.0, "inter_token_s": 0.05, "total_s": 60.0}


@pytest.mark.parametrize(("changes", "expected"), [
    pytest.param({}, True, id="at the edge of each"),
    pytest.param({"wait_s": 1.01}, False, id="first token late"),
    pytest.param({"inter_token_s": 0.06}, False, id="slow"),
    pytest.param({"total_s": 61.0}, False, id="long"),
    pytest.param({"inter_token_s": None}, True, id="a single token has no pace"),
])  # fmt: skip
def test_an_answer_keeps_all_of_its_objectives(changes: dict[str, Any], expected: bool) -> None:
    """A completed answer misses its objectives as soon as it misses one of them."""
    assert kept(ALL, Outcome.COMPLETED, **{**GOOD, **changes}) is expected


def test_what_has_no_objective_cannot_be_missed() -> None:
    """Only the wait has an objective by default."""
    assert kept(Objectives(1.0), Outcome.COMPLETED, wait_s=0.5, inter_token_s=9.0, total_s=900.0) is True


CALLERS = {"invalid", "unauthenticated", "forbidden", "rate_limited", "budget_spent"}
LEFT = {"client_gone_waiting", "client_gone_streaming"}


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.COMPLETED])
def test_every_other_end_is_ours_the_callers_or_unseen(outcome: Outcome) -> None:
    """What a caller has caused does not count, nor who leaves in time; all the rest was missed."""
    expected = None if outcome.value in CALLERS | LEFT else False
    assert kept(ALL, outcome, **GOOD) is expected


@pytest.mark.parametrize("outcome", sorted(LEFT))
def test_who_leaves_after_too_long_a_wait_was_not_served(outcome: str) -> None:
    """Otherwise an outage in which clients give up first would look like silence."""
    assert kept(ALL, Outcome(outcome), **{**GOOD, "wait_s": 2.0}) is False
