"""The comparison itself can fail: shapes tell apart what must not differ."""

import pytest

from tests.contract.shapes import differences, events, sequence, shape


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 1, "b": 1}),
        ({"a": None}, {"a": ""}),
        ([1], ["1"]),
        ([1, "a"], ["a", 1]),
        (1, 1.0),
        (1, True),
    ],
    ids=str,
)
def test_different_shapes_differ(one: object, other: object) -> None:
    """A missing key, a null, a type and an order all show."""
    assert shape(one) != shape(other)
    assert differences(shape(one), shape(other))
    assert not differences(shape(one), shape(one))


def test_words_and_lengths_do_not_matter() -> None:
    """Values and the number of repeats are left out."""
    assert shape({"a": ["x", "y"], "b": 1}) == shape({"b": 2, "a": ["z"]})


def test_a_stream_is_its_events_without_comments() -> None:
    """Comments are no events; runs of one kind collapse; the end mark stays."""
    body = b': usage p=1\n\ndata: {"a":1}\n\ndata: {"a":2}\n\nevent: e\ndata: {}\n\ndata: [DONE]\n\n'
    assert len(events(body)) == 4
    assert sequence(body) == [(None, {"a": "int"}), ("e", {}), (None, "[DONE]")]
