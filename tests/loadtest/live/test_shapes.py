"""The shapes: how many users there are when."""

import pytest

from loadtest.live import shapes
from loadtest.live.plan import Ramp, Spike, Steady, Step


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Steady(users=5, seconds=10), {0: 5, 9.9: 5, 10: None}),
        (Ramp(kind="ramp", first=2, last=12, seconds=10), {0: 2, 5: 7, 9.9: 12, 10: None}),
        (Ramp(kind="ramp", first=12, last=2, seconds=10), {0: 12, 5: 7, 10: None}),
        (
            Spike(kind="spike", users=3, peak=30, before_s=10, spike_s=2, after_s=5),
            {0: 3, 9.9: 3, 10: 30, 11.9: 30, 12: 3, 16.9: 3, 17: None},
        ),
        (
            Step(kind="step", users=10, times=2.5, before_s=10, overload_s=20, after_s=5),
            {0: 10, 10: 25, 29.9: 25, 30: 10, 34.9: 10, 35: None},
        ),
    ],
    ids=["steady", "ramp", "ramp down", "spike", "step"],
)
def test_users_over_time(shape: Steady | Ramp | Spike | Step, expected: dict[float, int | None]) -> None:
    """Each shape, at its corners."""
    assert {at_s: shapes.timed(shape, at_s) for at_s in expected} == expected


def test_a_shape_tells_itself() -> None:
    """The report's title has every number of it."""
    assert shapes.kind(Steady(users=5, seconds=10)) == "steady: users 5, seconds 10"
