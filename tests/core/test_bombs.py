"""Facts about bodies that are made to be slow: none holds the event loop for a tenth of a second."""

import time
from typing import Any

import orjson
import pytest

from cluster.core.body import MAX_VALUES
from cluster.core.request import InvalidRequest, parse_request
from tests.core.requests import CALL, USER, chat

LARGEST = 4 * 1024 * 1024
"""Bytes of the largest body that the gateway reads by default."""
BOUND_S = 0.1


def tools(count: int, properties: dict[str, Any]) -> bytes:
    """Return a chat with ``count`` tools that take the same properties."""
    parameters = {"type": "object", "properties": properties}
    functions = [{"name": f"f{n}", "parameters": parameters} for n in range(count)]
    return chat(tools=[{"type": "function", "function": one} for one in functions])


def schema(document: dict[str, Any]) -> bytes:
    """Return a chat whose answer must follow a schema."""
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": document}})


def filled(opening: bytes, unit: bytes, closing: bytes) -> bytes:
    """Return the largest body made of ``unit``."""
    return opening + unit * ((LARGEST - len(opening) - len(closing)) // len(unit)) + closing


def strings(count: int, pattern: str) -> dict[str, Any]:
    """Return properties that follow ``pattern``, each written in its own way."""
    return {f"p{n}": {"type": "string", "pattern": f"{pattern}{n}"} for n in range(count)}


REFERENCES = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(15)} | {"d15": {"type": "string"}}
CALLS = {"role": "assistant", "tool_calls": [{**CALL, "id": f"call_{n}"} for n in range(128)]}

PROMPT = b'{"model":"gpt-oss-120b","messages":[{"role":"user","content":"'
TO_FIRST = {f"p{n}": {"$ref": "#/$defs/d0"} for n in range(1500)}
TWICE = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(400)}

BODIES = {
    "arrays": filled(b'{"model":"m","x":[', b"[],", b"[]]}"),
    "nested-arrays": filled(b'{"model":"m","x":[', b"[" * 20 + b"]" * 20 + b",", b"[]]}"),
    "strings": filled(b'{"model":"m","x":[', b'"",', b'""]}'),
    "keys": filled(b'{"model":"m"', b',"abcdefgh":1', b"}"),
    "quotes": filled(b'{"model":"m","x":"', b'\\"', b'"}'),
    "backslashes": filled(b'{"model":"m","x":"', b"\\\\", b'"}'),
    "braces-in-a-string": filled(PROMPT, b"{", b'"}]}'),
    "digits": filled(b'{"model":', b"9", b"}"),
    "text": filled(PROMPT, "é".encode(), b'"}]}'),
    "unknown-fields": b'{"model":"m"' + b"".join(b',"k%d":1' % n for n in range(MAX_VALUES - 9)) + b"}",
    "messages": chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * 5}] * 2048),
    "tool-calls": chat(messages=[USER, *[CALLS] * 55]),
    "tools": tools(128, {f"p{n}": {"type": "string"} for n in range(70)}),
    "patterns": schema({"properties": strings(30, "(a|b)" * 100)}),
    "patterns-of-many-tools": tools(60, strings(3, "(a|b)" * 15)),
    "pattern-alternatives": schema({"properties": strings(30, "|".join(["a"] * 250))}),
    "pattern-groups": schema({"properties": strings(30, "(" * 90 + "a" + ")*" * 90)}),
    "pattern-lookbehinds": schema({"properties": strings(30, "(?<=a{9})" * 50)}),
    "references": schema({"$defs": REFERENCES, "properties": TO_FIRST}),
    "references-of-many-tools": tools(100, {f"p{n}": {"$ref": "#/properties"} for n in range(80)}),
    "long-reference": schema({"properties": {"properties": {"$ref": "#" + "/properties" * 5000}}}),
    "doubling": schema({"$defs": TWICE}),
    "enum": schema({"enum": [f"value-{n}" for n in range(1000)]}),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_no_body_takes_long(name: str) -> None:
    """Parsing and checking take less CPU time than a tenth of a second, whatever comes of it."""
    assert len(BODIES[name]) <= LARGEST
    took_s = []
    for _ in range(3):  # the first may pay for a cold cache, or a neighbour
        began_s = time.thread_time()
        try:
            parse_request("chat", BODIES[name], content_type="application/json")
        except InvalidRequest as error:
            assert len(orjson.dumps(error.message)) < 700
        took_s.append(time.thread_time() - began_s)
    assert min(took_s) < BOUND_S
