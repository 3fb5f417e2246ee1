"""Cutting a stream into events."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.gateway import sse
from cluster.gateway.http_errors import EngineFailed
from cluster.gateway.sse import EventSplitter, data_event, named_event, parse_data

EVENTS = [
    b'data: {"a":"x\\n\\ny"}\n\n',
    b": usage p=1 r=2 a=3\n\n",
    b"data: [DONE]\n\n",
    "data: ü€😀\n\n".encode(),
]
WHOLE = b"".join(EVENTS)


def cut(chunks: list[bytes]) -> list[bytes]:
    """Return the events of a stream that arrives in ``chunks``."""
    splitter = EventSplitter()
    return [event for chunk in chunks for event in splitter.feed(chunk)]


@pytest.mark.parametrize("at", range(len(WHOLE) + 1))
def test_a_cut_at_any_byte_gives_the_same_events(at: int) -> None:
    """Two chunks give the same events wherever the cut is."""
    assert cut([WHOLE[:at], WHOLE[at:]]) == EVENTS


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_any_cuts_give_the_same_events(cuts: list[int]) -> None:
    """Any number of chunks gives the same events."""
    edges = [0, *sorted(cuts), len(WHOLE)]
    assert cut([WHOLE[start:end] for start, end in pairwise(edges)]) == EVENTS


def test_an_unfinished_event_is_not_given() -> None:
    """Bytes without the blank line that ends them are kept."""
    assert cut([b"data: 1\n\ndata: 2\n"]) == [b"data: 1\n\n"]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event beyond the bound is an engine's fault, not the gateway's memory."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 16)
    with pytest.raises(EngineFailed):
        cut([b"data: 4567890", b"1234567"])


@pytest.mark.parametrize("event", [b"data: [1]\n\n", b"data: {x\n\n", b"event: a\n\n", b"data: \xff\n\n"])
def test_data_that_is_no_object_is_the_engines_fault(event: bytes) -> None:
    """An event without a JSON object in it is refused."""
    with pytest.raises(EngineFailed):
        parse_data(event)


def test_events_are_made_as_they_are_read() -> None:
    """What is made can be read back."""
    assert parse_data(data_event({"a": 1})) == {"a": 1}
    assert named_event({"type": "t"}) == b'event: t\ndata: {"type":"t"}\n\n'
