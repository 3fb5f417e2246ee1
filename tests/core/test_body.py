"""Facts about a request's body, from bytes to one JSON object."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.body import MAX_DEPTH, MAX_VALUES, decode
from cluster.core.invalid import InvalidRequest

JSON = "application/json"


def refused(
    body: bytes, content_type: str | None = JSON, content_encoding: str | None = None
) -> InvalidRequest:
    """Return the error that a body gets."""
    with pytest.raises(InvalidRequest) as caught:
        decode(body, content_type=content_type, content_encoding=content_encoding)
    return caught.value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "the body is empty", id="empty"),
        pytest.param(b"  ", "byte", id="blank"),
        pytest.param(b'{"a":', "byte 5", id="cut"),
        pytest.param(b'{"a":"\t"}', "byte", id="raw-tab-in-a-string"),
        pytest.param(b"[{}]", "one JSON object", id="array"),
        pytest.param(b'"text"', "one JSON object", id="string"),
        pytest.param(b"17", "one JSON object", id="number"),
        pytest.param(b"null", "one JSON object", id="null"),
        pytest.param(b"\xef\xbb\xbf{}", "BOM", id="byte-order-mark"),
        pytest.param(b"{} {}", "after document", id="trailing-document"),
        pytest.param(b"{}\x00", "byte", id="trailing-nul"),
        pytest.param(b'{"a":NaN}', "byte", id="nan"),
        pytest.param(b'{"a":-Infinity}', "byte", id="infinity"),
        pytest.param(b'{"a":1e999}', "infinity", id="overflowing-number"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", "infinity", id="5000-digits"),
        pytest.param(b'{"a":"\xff"}', "UTF-8", id="bad-utf-8"),
        pytest.param('{"a":"é"}'.encode("utf-16"), "byte", id="utf-16"),
        pytest.param(b'{"a":"\\ud800"}', "surrogate", id="lone-surrogate"),
        pytest.param(b'{"a":1,"a":2}', "same key twice", id="repeated-key"),
        pytest.param(b'{"a":1,"\\u0061":2}', "same key twice", id="repeated-key-escaped"),
        pytest.param(b'{"a":[{"b":{"c":1,"c":1}}]}', "same key twice", id="repeated-key-deep"),
        pytest.param(b'{"a":{"x":1},"a":{"x":1}}', "same key twice", id="repeated-object"),
        pytest.param(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "deeper than 64", id="65-levels"),
        pytest.param(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "depth", id="5000-levels"),
        pytest.param(b'{"a":[' + b"{}," * MAX_VALUES + b"{}]}", "more than 50000", id="too-many-values"),
    ],
)
def test_unreadable_bodies(body: bytes, reason: str) -> None:
    """A body that is not exactly one unambiguous JSON object gets OpenAI's 400, and the reason."""
    error = refused(body)
    assert error.status == 400
    assert error.message.startswith("We could not parse the JSON body of your request. (HINT: ")
    assert reason in error.message
    assert (error.param, error.code) == (None, None)


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param("text/plain", id="text"),
        pytest.param("application/x-www-form-urlencoded", id="form"),
        pytest.param("multipart/form-data; boundary=x", id="multipart"),
        pytest.param("application/json; charset=utf-16", id="utf-16"),
        pytest.param("application/json; version=2", id="other-parameter"),
        pytest.param("application/vnd.api+json", id="other-json"),
        pytest.param("application/json" + " " * 10_000, id="long"),
    ],
)
def test_other_media_types_are_415(content_type: str | None) -> None:
    """Only JSON in UTF-8 is read, and it must be declared."""
    error = refused(b"{}", content_type)
    assert (error.status, error.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_encoding", ["gzip", "br", "zstd", "gzip, identity"])
def test_compressed_bodies_are_415(content_encoding: str) -> None:
    """Nothing is decompressed, so that no body can be a bomb."""
    assert refused(b"\x1f\x8b", content_encoding=content_encoding).status == 415


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
    ],
)
def test_json_by_its_usual_names(content_type: str) -> None:
    """The media type may be written in any case, with the charset that JSON has anyway."""
    assert decode(b"{}", content_type=content_type, content_encoding="identity") == {}


def test_deepest_nesting() -> None:
    """64 levels are read."""
    inner = MAX_DEPTH - 1
    assert decode(b'{"a":' + b"[" * inner + b"]" * inner + b"}", content_type=JSON)


def test_the_input_is_not_repeated() -> None:
    """The error of an unreadable body shows nothing of it."""
    assert "secret" not in refused(b'{"secret": "secret" secret}').message


documents: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(st.text('a":\\{', max_size=4), documents, max_size=4),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_valid_objects_are_read_whole(document: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """Any JSON object without repeated keys is read as it is, however it is written."""
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert decode(text.encode(), content_type=JSON) == document


@given(st.text('a":\\{,', max_size=6), st.text('b":\\', max_size=6), st.integers(0, 3))
def test_repeated_keys_never_pass(key: str, other: str, depth: int) -> None:
    """A key that is written twice in one object is found at any depth, whatever characters are in it."""
    name = json.dumps(key)
    text = f"{{{name}:{json.dumps(other)},{name}:1}}"
    for _ in range(depth):
        text = f'{{"x":[{text}]}}'
    assert "same key twice" in refused(text.encode()).message
