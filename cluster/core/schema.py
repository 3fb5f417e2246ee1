"""JSON Schemas that clients send: bounded, and sound enough to be compiled into a grammar.

A schema reaches the engine's grammar compiler, where a bad one has killed whole engines (vLLM 43920, 45346,
47312) and a large one stalls everybody. The bounds are OpenAI's where it names one (depth 10 is raised here,
as ``anyOf`` and ``$defs`` count as levels) and generous for real tools otherwise.
"""

import re
from collections.abc import Iterator
from typing import Any

import orjson

MAX_BYTES = 64 * 1024
"""Largest schema, as compact JSON."""
MAX_LEVELS = 20
"""Deepest nesting of schemas in schemas."""
MAX_SCHEMAS = 4_000
"""Most schemas in one, counting itself."""
MAX_ENUM = 1_000
"""Most values of one ``enum``."""
MAX_PATTERN = 512
"""Longest ``pattern``, in characters."""
MAX_COUNT = 100_000
"""Largest length or number of items that a schema may name."""
MAX_REPEAT = 1_000
"""Largest repetition in a ``pattern``: two nested ones of 1,000 compile in 70 ms."""
MAX_REF_HOPS = 16
"""Most references in a row."""

_TYPES = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))
_MAPS = frozenset(("properties", "$defs", "definitions", "patternProperties", "dependentSchemas"))
_LISTS = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_SINGLES = frozenset(
    (
        "items",
        "additionalProperties",
        "unevaluatedProperties",
        "unevaluatedItems",
        "additionalItems",
        "contains",
        "propertyNames",
        "not",
        "if",
        "then",
        "else",
    )
)
_HELD = frozenset(
    (
        *(
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "enum",
            "const",
            "anyOf",
            "$ref",
        ),
        *("$defs", "description", "title", "default", "examples"),
    )
)
"""Keywords that a grammar holds an answer to, or that ask nothing of it."""
_COUNTS = frozenset(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"))
_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
"""ECMAScript's named group, which Python spells with a P."""
_REPEATS = re.compile(r"\{(\d*),?(\d*)\}")


class SchemaError(ValueError):
    """A schema is unsound or too large; the message says where and why."""


def check_schema(schema: dict[str, Any]) -> None:
    """Check one JSON Schema. Raises `SchemaError`."""
    if len(orjson.dumps(schema)) > MAX_BYTES:
        raise SchemaError(f"it is larger than {MAX_BYTES} bytes")
    level: list[tuple[str, Any]] = [("", schema)]
    seen = 0
    for _ in range(MAX_LEVELS):
        seen += len(level)
        if seen > MAX_SCHEMAS:
            raise SchemaError(f"it has more than {MAX_SCHEMAS} schemas in it")
        level = [inner for place, node in level for inner in _check_node(place, node, schema)]
        if not level:
            return
    raise SchemaError(f"schemas are nested deeper than {MAX_LEVELS} levels")


def is_held(schema: dict[str, Any]) -> bool:
    """Whether a grammar surely holds an answer to all of ``schema``, which `check_schema` has passed."""
    level: list[Any] = [schema]
    while level:
        nodes = [node for node in level if type(node) is dict]
        if any(key not in _HELD for node in nodes for key in node):
            return False
        level = [inner for node in nodes for _, inner in _check_node("", node, schema)]
    return True


def _check_node(place: str, node: Any, root: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Check one schema but for those in it, which are returned with their places."""
    if type(node) is bool:
        return
    if type(node) is not dict:
        raise SchemaError(f"{place or 'schema'} must be an object or a boolean")
    for key, value in node.items():
        inner = f"{place}.{key}" if place else key
        if key in _MAPS:
            if type(value) is not dict:
                raise SchemaError(f"{_short(inner)} must be an object")
            yield from ((f"{inner}.{name}", item) for name, item in value.items())
        elif key in _LISTS:
            if type(value) is not list or not value:
                raise SchemaError(f"{_short(inner)} must be a non-empty array")
            yield from ((f"{inner}[{index}]", item) for index, item in enumerate(value))
        elif key in _SINGLES:
            yield inner, value
        else:
            _check_keyword(key, value, _short(inner), root)


def _check_keyword(key: str, value: Any, place: str, root: dict[str, Any]) -> None:
    if key == "type":
        names = value if type(value) is list else [value]
        if not names or not all(type(name) is str and name in _TYPES for name in names):
            raise SchemaError(f"{place} must be one of {', '.join(sorted(_TYPES))}, or an array of them")
    elif key == "required":
        if type(value) is not list or not all(type(name) is str for name in value):
            raise SchemaError(f"{place} must be an array of strings")
    elif key == "enum":
        if type(value) is not list or not 0 < len(value) <= MAX_ENUM:
            raise SchemaError(f"{place} must be an array of 1 to {MAX_ENUM} values")
    elif key in _COUNTS:
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            raise SchemaError(f"{place} must be an integer from 0 to {MAX_COUNT}")
    elif key == "pattern":
        _check_pattern(value, place)
    elif key in ("$ref", "$dynamicRef", "$recursiveRef"):
        _check_reference(value, place, root)


def _check_pattern(value: Any, place: str) -> None:
    if type(value) is not str or len(value) > MAX_PATTERN:
        raise SchemaError(f"{place} must be a string of at most {MAX_PATTERN} characters")
    bounds = (int(number) for pair in _REPEATS.findall(value) for number in pair if number)
    if any(bound > MAX_REPEAT for bound in bounds):
        raise SchemaError(f"{place} repeats more than {MAX_REPEAT} times")
    try:
        re.compile(_NAMED_GROUP.sub("(?P<", value))
    except (re.error, OverflowError, RecursionError):
        raise SchemaError(f"{place} is not a regular expression") from None


def _check_reference(value: Any, place: str, root: dict[str, Any]) -> None:
    """Check that a reference stays inside the schema and ends at something else than a reference."""
    for _ in range(MAX_REF_HOPS):
        target = _resolve(value, place, root)
        if type(target) is not dict or "$ref" not in target:
            return
        value = target["$ref"]
    raise SchemaError(f"{place} leads through more than {MAX_REF_HOPS} references")


def _resolve(value: Any, place: str, root: dict[str, Any]) -> Any:
    if type(value) is not str or not (value == "#" or value.startswith("#/")):
        raise SchemaError(f"{place} must point into the schema itself, such as '#/$defs/name'")
    node: Any = root
    for part in value.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if type(node) is list and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        elif type(node) is dict and key in node:
            node = node[key]
        else:
            raise SchemaError(f"{place} points at nothing")
    return node


def _short(place: str) -> str:
    return place if len(place) <= 96 else place[:96] + "…"
