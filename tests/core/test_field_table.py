"""The field tables know every field of OpenAI's types, at any depth, and do with it what they say."""

import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    Required,
    Union,
    get_args,
    get_origin,
)

import orjson
import pytest
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params
from typing_extensions import get_type_hints, is_typeddict

from cluster.core import fields
from cluster.core.invalid import InvalidRequest
from cluster.core.request import Endpoint, ParsedRequest
from cluster.core.shapes import Field, Inner, Shape
from tests.core import field_examples
from tests.core.requests import chat, error_of, parsed, response
from tests.field_rows import kind_path

TABLES: dict[Endpoint, Shape] = {"chat": fields.CHAT, "responses": fields.RESPONSES}
TYPES: dict[Endpoint, list[type]] = {
    "chat": [chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming],
    "responses": [
        response_params.ResponseCreateParamsNonStreaming,
        response_params.ResponseCreateParamsStreaming,
    ],
}
EXAMPLES: dict[Endpoint, list[dict[str, Any]]] = {
    "chat": field_examples.CHATS,
    "responses": field_examples.RESPONSES,
}
BODY = {"chat": chat, "responses": response}

OURS: dict[Endpoint, set[str]] = {
    "chat": {
        "thinking_token_budget",
        "messages[role=assistant].reasoning",
        "messages[role=assistant].reasoning_content",
        "messages[role=assistant].annotations",
        "messages[role=assistant].tool_calls[type=function].index",
        "messages[role=tool].name",
        *(
            f"messages[role={role}].content[type=video_url]"
            for role in ("system", "developer", "user", "tool")
        ),
        *(
            f"messages[role={role}].content[type={kind}]"
            for role in ("system", "developer", "tool")
            for kind in ("image_url", "input_audio", "file")
        ),
    },
    "responses": {
        "thinking_token_budget",
        *(
            f"input[type=message].content[type=text]{member}"
            for member in ("", ".type", ".text", ".prompt_cache_breakpoint")
        ),
        "input[type=message].content[type=input_audio]",
    },
}
"""What the tables know and OpenAI's types do not: vLLM's, repeated from answers, or better refused."""

UNSERVED: dict[Endpoint, set[tuple[str, str]]] = {
    "chat": set(),
    "responses": {("reasoning.mode", "pro"), ("include", "message.output_text.logprobs")},
}
"""Words of OpenAI's that are refused in fields that are not."""


def known(shape: Shape, path: str = "") -> Iterator[str]:
    """Return the paths of all fields and kinds of objects in a table."""
    for name, field in shape.items():
        place = f"{path}.{name}" if path else name
        yield place
        if field.inner is not None:
            for kind, inside in field.inner.shapes.items():
                at = kind_path(field.inner, place, kind)
                if field.inner.tag:
                    yield at
                yield from known(inside, at)
            yield from (kind_path(field.inner, place, kind) for kind in field.inner.refused)


def official(kind: type, shape: Shape, path: str = "") -> Iterator[tuple[str, Field | None, Any]]:
    """Return what a TypedDict holds, as deep as the table looks: path, field in the table, and type.

    Kinds of objects have no field. Fails where the table lacks one.
    """
    for name, hint in get_type_hints(kind, include_extras=True).items():
        place = f"{path}.{name}" if path else name
        assert name in shape, f"{place} of {kind.__name__} is in no table"
        yield place, shape[name], hint
        if shape[name].rule == "honoured":
            for inside in objects(hint):
                inner = shape[name].inner
                assert inner is not None, f"the table does not look into {place} ({inside.__name__})"
                yield from official_kinds(inside, inner, place)


def official_kinds(kind: type, inner: Inner, place: str) -> Iterator[tuple[str, Field | None, Any]]:
    """Return the same of one TypedDict among those that a field may hold, under each of its kinds."""
    hints = get_type_hints(kind, include_extras=True)
    for word in literals(hints[inner.tag]) if inner.tag else [""]:
        at = kind_path(inner, place, word)
        if inner.tag:
            yield at, None, kind
        if word not in inner.refused:
            assert word in inner.shapes, f"{at} ({kind.__name__}) is in no table"
            yield from official(kind, inner.shapes[word], at)


def objects(hint: Any) -> Iterator[type]:
    """Return the TypedDicts in a type, through unions and arrays, but not those inside them."""
    if is_typeddict(hint):
        yield hint
    elif get_origin(hint) is not dict:
        yield from (found for inside in get_args(hint) for found in objects(inside))


def literals(hint: Any) -> list[str]:
    """Return the words of a type, through unions and arrays."""
    if get_origin(hint) is Literal:
        return [word for word in get_args(hint) if isinstance(word, str)]
    if get_origin(hint) in (Required, Annotated, Union, types.UnionType, list, Iterable, Sequence):
        return [word for inside in get_args(hint) for word in literals(inside)]
    return []


@pytest.mark.parametrize("endpoint", TABLES)
def test_the_table_is_openais_schema(endpoint: Endpoint) -> None:
    """Each field and kind of object of the installed client's types is in the table, and little else."""
    table = TABLES[endpoint]
    there = {path for kind in TYPES[endpoint] for path, _, _ in official(kind, table)}
    assert set(known(table)) - there == OURS[endpoint]


@pytest.mark.parametrize("endpoint", TABLES)
def test_every_word_of_openais_is_known(endpoint: Endpoint) -> None:
    """Where the types list the words of a field, each of them is taken, at any depth."""
    refused = set()
    for path, field, hint in official(TYPES[endpoint][0], TABLES[endpoint]):
        if field is None or field.rule == "refused":
            continue
        for word in literals(hint):
            value = [word] if list in [get_origin(part) for part in (hint, *get_args(hint))] else word
            read: Any = field.read
            try:
                read(value, path, *([] if field.inner is None else [[]]))
            except InvalidRequest:
                refused.add((path, word))
    assert refused == UNSERVED[endpoint]


Steps = tuple[str | int, ...]
"""The way to a value in an example."""


@dataclass(frozen=True)
class Found:
    """An object in an example."""

    endpoint: Endpoint
    example: Mapping[str, Any]
    steps: Steps
    value: Mapping[str, Any]
    path: str
    """As the page of fields writes it."""
    shape: Shape


def found(endpoint: Endpoint, example: Mapping[str, Any]) -> Iterator[Found]:
    """Return the objects of an example that the table looks into, the whole request first."""
    todo = [Found(endpoint, example, (), example, "", TABLES[endpoint])]
    while todo:
        yield (outer := todo.pop())
        for name, value in outer.value.items():
            inner = outer.shape[name].inner
            for index, item in enumerate(value if type(value) is list else [value]):
                if inner is not None and type(item) is dict:
                    kind = str(item.get(inner.tag, inner.default)) if inner.tag else ""
                    steps = (*outer.steps, name, *([index] if type(value) is list else []))
                    path = kind_path(inner, field_path(outer, name), kind)
                    todo.append(Found(endpoint, example, steps, item, path, inner.shapes[kind]))


def field_path(holder: Found, name: str) -> str:
    """Return the path of a field of an object."""
    return f"{holder.path}.{name}" if holder.path else name


def written(steps: Steps) -> str:
    """Return a way as errors write it."""
    return "".join(f"[{step}]" if type(step) is int else f".{step}" for step in steps).lstrip(".")


def changed(example: Mapping[str, Any], steps: Steps, value: Any = None) -> dict[str, Any]:
    """Return a copy of an example with the value at ``steps`` set, or left out for None."""
    top: dict[str, Any] = orjson.loads(
        orjson.dumps(example)
    )  # shares no part with itself, unlike a deep copy
    node: Any = top
    for step in steps[:-1]:
        node = node[step]
    if value is None:
        del node[steps[-1]]
    else:
        node[steps[-1]] = value
    return top


def outcome(endpoint: Endpoint, example: Mapping[str, Any]) -> ParsedRequest | str:
    """Return what an example is read as, less what any text changes, or the error it gets."""
    try:
        request = parsed(endpoint, BODY[endpoint](**example))
    except InvalidRequest as error:
        return error.message
    return request._replace(prompt_tokens=0, ignored=())


OBJECTS = [one for endpoint, many in EXAMPLES.items() for example in many for one in found(endpoint, example)]
ACCEPTED = {
    (one.endpoint, field_path(one, name)): (one, name) for one in reversed(OBJECTS) for name in one.value
}
"""A place in an example for each field that is not refused."""
REFUSED = {
    (one.endpoint, field_path(one, name)): (one, name)
    for one in OBJECTS
    for name, field in one.shape.items()
    if field.rule == "refused"
}
"""An object to put each refused field into."""
KINDS = {
    (one.endpoint, kind_path(inner, field_path(one, name), kind)): (one, name, kind)
    for one in OBJECTS
    for name, value in one.value.items()
    if (inner := one.shape[name].inner) is not None and type(value) is not str
    for kind in inner.refused
}
"""A field of an example to put each refused kind of object into."""


@pytest.mark.parametrize("endpoint", TABLES)
def test_the_examples_leave_nothing_out(endpoint: Endpoint) -> None:
    """Each row of the table is tested below."""
    tested = {path for where in (ACCEPTED, REFUSED, KINDS) for of, path in where if of == endpoint}
    tested |= {one.path for one in OBJECTS if one.endpoint == endpoint}
    assert set(known(TABLES[endpoint])) <= tested


SAME_WITHOUT: set[tuple[Endpoint, str]] = {
    ("chat", "messages[role=assistant].tool_calls[type=function].type"),
    ("responses", "input[type=message].type"),
    ("responses", "stream_options"),
}
"""Honoured fields whose value in the examples is what their absence means, or holds ignored ones alone."""


@pytest.mark.parametrize(("endpoint", "path"), ACCEPTED)
def test_an_accepted_field_does_what_its_row_says(endpoint: Endpoint, path: str) -> None:
    """Without an honoured field the request is another; an ignored one is named instead."""
    one, name = ACCEPTED[endpoint, path]
    field, steps = one.shape[name], (*one.steps, name)
    same = outcome(endpoint, one.example) == outcome(endpoint, changed(one.example, steps))
    assert same == (field.rule == "ignored" or (endpoint, path) in SAME_WITHOUT)
    named = re.sub(r"\[\d+]", "[]", written(steps)) in parsed(endpoint, BODY[endpoint](**one.example)).ignored
    assert named == (field.rule == "ignored" and field.named and not field.asks_nothing(one.value[name]))


@pytest.mark.parametrize(("endpoint", "path"), REFUSED)
def test_a_refused_field_is_told_with_its_reason(endpoint: Endpoint, path: str) -> None:
    """The error names the field's place and says why; values that ask for nothing pass."""
    one, name = REFUSED[endpoint, path]
    steps, field = (*one.steps, name), one.shape[name]
    error = error_of(endpoint, BODY[endpoint](**changed(one.example, steps, {"any": "thing"})))
    place = written(steps)
    assert error.message == f"Unsupported parameter: '{place}' is not supported: {field.note}."
    assert (error.status, error.param, error.code) == (400, place, "unsupported_parameter")
    for value in field.harmless:
        assert outcome(endpoint, changed(one.example, steps, value)) == outcome(endpoint, one.example)


@pytest.mark.parametrize(("endpoint", "path"), KINDS)
def test_a_refused_kind_is_told_with_its_reason(endpoint: Endpoint, path: str) -> None:
    """The error names the place of the kind's name, says why, and what would do."""
    one, name, kind = KINDS[endpoint, path]
    inner = one.shape[name].inner
    assert inner is not None
    steps = (*one.steps, name, *([0] if inner.array else []))
    error = error_of(endpoint, BODY[endpoint](**changed(one.example, steps, {inner.tag: kind})))
    assert error.message.startswith(
        f"Invalid value: '{kind}' is not supported here: {inner.refused[kind]}. Supported values are: '"
    )
    assert (error.status, error.param, error.code) == (400, f"{written(steps)}.{inner.tag}", "invalid_value")
