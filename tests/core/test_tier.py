"""Which tier a request gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.tier import ASKABLE, TIERS, Tier, choose

tiers = st.sampled_from(TIERS)


@given(st.sampled_from([None, *ASKABLE]), tiers)
def test_nobody_gets_more_than_their_own(asked: str | None, own: Tier) -> None:
    """Whatever is asked for."""
    assert TIERS.index(choose(asked, own=own)) <= TIERS.index(own)


@given(tiers, tiers)
def test_less_than_the_own_is_given(asked: Tier, own: Tier) -> None:
    """A caller may always yield."""
    assert choose(asked, own=own) == min(asked, own, key=TIERS.index)


@pytest.mark.parametrize("asked", [None, "auto", "scale", "fast", "ultrafast"])
@pytest.mark.parametrize("own", TIERS)
def test_other_words_ask_for_the_callers_own(asked: str | None, own: Tier) -> None:
    """As ``auto`` does at OpenAI, where it means the project's."""
    assert choose(asked, own=own) == own
