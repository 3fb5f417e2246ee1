"""Facts about the choice of an effort level."""

from typing import get_args

import pytest

from cluster.core.effort import EFFORTS, MAPPED, Effort, EffortChoice, EffortReason, choose, tightest
from cluster.core.fields import EFFORT_WORDS


@pytest.mark.parametrize(
    ("asked", "default", "cap", "level", "reason"),
    [
        pytest.param(None, "medium", "high", "medium", "default", id="none-named"),
        pytest.param(None, "high", "low", "low", "tenant_cap", id="default-above-cap"),
        pytest.param("low", "medium", "high", "low", "requested", id="low"),
        pytest.param("high", "low", "high", "high", "requested", id="high"),
        pytest.param("high", "low", "medium", "medium", "tenant_cap", id="asked-above-cap"),
        pytest.param("medium", "low", "medium", "medium", "requested", id="asked-at-cap"),
        pytest.param("none", "medium", "high", "low", "mapped", id="none"),
        pytest.param("minimal", "medium", "high", "low", "mapped", id="minimal"),
        pytest.param("xhigh", "medium", "high", "high", "mapped", id="xhigh"),
        pytest.param("max", "medium", "high", "high", "mapped", id="max"),
        pytest.param("max", "medium", "low", "low", "tenant_cap", id="mapped-above-cap"),
    ],
)
def test_level_and_reason(
    asked: str | None, default: Effort, cap: Effort, level: Effort, reason: EffortReason
) -> None:
    """The level is the asked one, mapped where gpt-oss lacks it, never above the cap, and says why."""
    assert choose(asked, default=default, cap=cap) == EffortChoice(asked, level, reason)


def test_unknown_word_names_the_known_ones() -> None:
    """An unknown word is an error that lists every word that would do."""
    with pytest.raises(ValueError, match=r"'huge'.*low, medium, high, none, minimal, xhigh, max"):
        choose("huge", default="low")


def test_every_word_of_openai_is_served() -> None:
    """The words that a request may use are exactly those that a level is chosen for."""
    assert set(EFFORT_WORDS) == {*EFFORTS, *MAPPED}


def test_levels_are_ordered() -> None:
    """Levels run from the lowest to the highest, as caps compare them."""
    assert get_args(Effort) == EFFORTS == ("low", "medium", "high")


@pytest.mark.parametrize(
    ("caps", "tight"), [((), None), ((None, None), None), ((None, 64, 16), 16), ((64, None), 64)]
)
def test_the_tightest_cap_holds(caps: tuple[int | None, ...], tight: int | None) -> None:
    """Of caps on reasoning the smallest one; where none is set, none."""
    assert tightest(*caps) == tight
