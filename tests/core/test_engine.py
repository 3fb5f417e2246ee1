"""Facts about what a replica tells the gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.engine import EngineLoad, StreamUsage, parse_load, parse_usage, render_load, render_usage

counts = st.integers(min_value=0, max_value=2**40)


@given(st.builds(EngineLoad, counts, counts, st.integers(0, 1000).map(lambda n: n / 1000), counts))
def test_load_survives_the_header(load: EngineLoad) -> None:
    """A load that is written is read back the same, KV use to a thousandth."""
    assert parse_load(render_load(load)) == load


@given(st.builds(StreamUsage, counts, counts, counts))
def test_usage_survives_the_comment(usage: StreamUsage) -> None:
    """A usage comment that is written is read back the same."""
    assert parse_usage(render_usage(usage)) == usage


def test_usage_is_an_sse_comment() -> None:
    """A usage comment is one SSE comment of its own, which any client ignores."""
    assert render_usage(StreamUsage(5, 3, 2)) == b": usage p=5 r=3 a=2\n\n"


def test_a_comment_carries_the_load() -> None:
    """A stream that lasts minutes tells the gateway of its replica all the while."""
    load = EngineLoad(running=3, waiting=1, kv_use=0.25, slots=8)
    event = render_usage(StreamUsage(5, 3, 2), load)
    assert event == b": usage p=5 r=3 a=2 l=r=3;w=1;k=0.250;s=8\n\n"
    told = parse_usage(event)
    assert told is not None
    assert told.load == load


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("r=1;w=2;k=0.5", id="a-field-short"),
        pytest.param("r=one;w=2;k=0.5;s=4", id="word-for-a-number"),
        pytest.param("\x00", id="garbage"),
    ],
)
def test_malformed_load_is_none(value: str) -> None:
    """A load header that is not whole counts as none, never as an error."""
    assert parse_load(value) is None


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b": keep-alive\n\n", id="another-comment"),
        pytest.param(b"data: usage p=1 r=1 a=1\n\n", id="data"),
        pytest.param(b": usage p=1 r=1\n\n", id="a-field-short"),
        pytest.param(b": usage p=x r=1 a=1\n\n", id="word-for-a-number"),
    ],
)
def test_other_events_are_no_usage(event: bytes) -> None:
    """Anything but a whole usage comment counts as none."""
    assert parse_usage(event) is None
