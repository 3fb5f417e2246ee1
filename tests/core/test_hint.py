"""Facts about the routing hint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.effort import EFFORTS
from cluster.core.hint import MAX_BYTES, RouteHint, parse, render

PLAIN = RouteHint(effort="low", expected_output_tokens=400, prompt_tokens=120)

counts = st.integers(min_value=0, max_value=2**50)
keys = st.text("0123456789abcdef", min_size=16, max_size=16) | st.just("")
hints = st.builds(
    RouteHint,
    effort=st.sampled_from(EFFORTS),
    expected_output_tokens=counts,
    prompt_tokens=counts,
    prefix=keys,
    conversation=keys,
    deadline_ms=counts,
    queued_tokens=counts,
    attempt=st.integers(1, 9),
    avoid=st.text("abcdefghijklmnopqrstuvwxyz0123456789-#", max_size=60),
)


@given(hints)
def test_a_hint_survives_the_header(hint: RouteHint) -> None:
    """A hint that is written is read back the same."""
    assert parse(render(hint)) == hint


def test_contract_example() -> None:
    """The header has the keys and the order of the contract."""
    hint = RouteHint(
        effort="high",
        expected_output_tokens=8000,
        prompt_tokens=90,
        prefix="0123456789abcdef",
        conversation="fedcba9876543210",
        deadline_ms=1700000000000,
        queued_tokens=12,
        attempt=2,
        avoid="replica-7",
    )
    assert render(hint) == (
        "v=1;e=high;o=8000;i=90;p=0123456789abcdef;c=fedcba9876543210;d=1700000000000;q=12;a=2;x=replica-7"
    )


def test_avoid_gives_way() -> None:
    """A replica's name that would make the header too long is left out, and the rest stays."""
    hint = PLAIN._replace(avoid="r" * MAX_BYTES)
    assert parse(render(hint)) == PLAIN


def test_unknown_keys_are_ignored() -> None:
    """A router understands the hint of a newer gateway as far as it goes."""
    assert parse(render(PLAIN) + ";z=9") == PLAIN


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="absent"),
        pytest.param("", id="empty"),
        pytest.param("v=2;e=low;o=1;i=1", id="other-version"),
        pytest.param("v=1;e=huge;o=1;i=1", id="unknown-effort"),
        pytest.param("v=1;e=low;i=1", id="no-expected-output"),
        pytest.param("v=1;e=low;o=-1;i=1", id="negative"),
        pytest.param("v=1;e=low;o=٣;i=1", id="other-digits"),
        pytest.param("v=1;e=low;o=1;i=1;" + "z" * MAX_BYTES, id="too-long"),
        pytest.param("\r\n", id="garbage"),
    ],
)
def test_bad_hints_are_none(value: str | None) -> None:
    """A hint that is absent or wrong counts as none, so that the request is routed by load alone."""
    assert parse(value) is None
