"""JSON Schemas that clients send: bounded, and sound enough to be compiled into a grammar.

A schema reaches the engine's grammar compiler, where a bad one has killed whole engines (vLLM 43920, 45346,
47312) and a large one stalls everybody. The bounds are OpenAI's where it names one (depth 10 is raised here,
as ``anyOf`` and ``$defs`` count as levels) and generous for real tools otherwise.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from cluster.core.patterns import check_pattern

MAX_BYTES = 64 * 1024
"""Largest schema, as compact JSON."""
MAX_LEVELS = 20
"""Deepest nesting of schemas in schemas."""
MAX_SCHEMAS = 4_000
"""Most schemas in one, counting itself."""
MAX_ENUM = 1_000
"""Most values of one ``enum``."""
MAX_COUNT = 100_000
"""Largest length or number of items that a schema may name."""
MAX_ALL_SCHEMAS = 10_000
"""Most schemas in those of one request's tools together."""
MAX_ALL_PATTERNS = 16 * 1024
"""Most characters of all their patterns: compiling one takes 2 µs a character."""
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
_LIMITS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_PAIRS = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minimum", "maximum"),
)
_REFERENCES = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
_CONTAINING = _MAPS | _LISTS | _SINGLES
_NOTHING = object()


class SchemaError(ValueError):
    """A schema is unsound or too large; the message says where and why."""


@dataclass(slots=True)
class Spent:
    """What the schemas of one request have taken so far of the bounds that they share."""

    schemas: int = 0
    pattern_chars: int = 0


def check_schema(schema: dict[str, Any], spent: Spent | None = None) -> None:
    """Check one JSON Schema; ``spent`` is that of the request's other schemas. Raises `SchemaError`."""
    if len(orjson.dumps(schema)) > MAX_BYTES:
        raise SchemaError(f"it is larger than {MAX_BYTES} bytes")
    spent = spent or Spent()
    keywords = _Keywords(schema, spent)
    level: list[tuple[str, Any]] = [("", schema)]
    seen = 0
    for _ in range(MAX_LEVELS):
        seen += len(level)
        spent.schemas += len(level)
        if seen > MAX_SCHEMAS:
            raise SchemaError(f"it has more than {MAX_SCHEMAS} schemas in it")
        if spent.schemas > MAX_ALL_SCHEMAS:
            raise SchemaError(f"the request's schemas have more than {MAX_ALL_SCHEMAS} schemas in them")
        below: list[tuple[str, Any]] = []
        for place, node in level:
            if type(node) is bool:
                continue
            if type(node) is not dict:
                raise SchemaError(f"{_short(place) or 'schema'} must be an object or a boolean")
            keywords.check(place, node)
            below += _inner(place, node)
        if not below:
            return
        level = below
    raise SchemaError(f"schemas are nested deeper than {MAX_LEVELS} levels")


def is_held(schema: dict[str, Any]) -> bool:
    """Whether a grammar surely holds an answer to all of ``schema``, which `check_schema` has passed."""
    level: list[Any] = [schema]
    while level:
        nodes = [node for node in level if type(node) is dict]
        if not all(_HELD.issuperset(node) for node in nodes):
            return False
        level = [inner for node in nodes for _, inner in _inner("", node)]
    return True


def _inner(place: str, node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the schemas in one, with their places."""
    for key in _CONTAINING.intersection(node):
        value, inner = node[key], f"{place}.{key}" if place else key
        if key in _MAPS:
            if type(value) is not dict:
                raise SchemaError(f"{_short(inner)} must be an object")
            yield from ((f"{inner}.{name}", item) for name, item in value.items())
        elif key in _LISTS:
            if type(value) is not list or not value:
                raise SchemaError(f"{_short(inner)} must be a non-empty array")
            yield from ((f"{inner}[{index}]", item) for index, item in enumerate(value))
        else:
            yield inner, value


class _Keywords:
    """Checks the keywords of the schemas in ``root`` that hold no schemas themselves."""

    def __init__(self, root: dict[str, Any], spent: Spent) -> None:
        self._root, self._spent = root, spent
        self._ending: set[str] = set()
        """References that are known to end."""

    def check(self, place: str, node: dict[str, Any]) -> None:
        """Check one schema. Raises `SchemaError`."""
        for key, value in node.items():
            wrong = None
            if key in _COUNTS:
                wrong = _wrong_count(value)
            elif key in _LIMITS:
                wrong = _wrong_limit(value, above_zero=key == "multipleOf")
            elif key in _WRONG:
                wrong = _WRONG[key](value)
            elif key == "pattern":
                wrong = self._wrong_pattern(value)
            elif key == "patternProperties" and type(value) is dict:
                wrong = next(filter(None, map(self._wrong_pattern, value)), None)
            elif key in _REFERENCES:
                wrong = self._wrong_reference(value)
            if wrong is not None:
                raise SchemaError(f"{_short(f'{place}.{key}' if place else key)} {wrong}")
        for low, high in _PAIRS:
            if low in node and high in node and node[low] > node[high]:
                raise SchemaError(f"{_short(f'{place}.{low}' if place else low)} must not be above {high}")

    def _wrong_pattern(self, value: Any) -> str | None:
        if type(value) is not str:
            return "must be a string"
        self._spent.pattern_chars += len(value)
        if self._spent.pattern_chars > MAX_ALL_PATTERNS:
            return f"is one pattern too many: they have more than {MAX_ALL_PATTERNS} characters in all"
        try:
            check_pattern(value)
        except ValueError as error:
            return str(error)
        return None

    def _wrong_reference(self, value: Any) -> str | None:
        """Say why a reference leaves the schema, or leads to nothing but further references."""
        passed = []
        for _ in range(MAX_REF_HOPS):
            if type(value) is not str or not (value == "#" or value.startswith("#/")):
                return "must point into the schema itself, such as '#/$defs/name'"
            if value not in self._ending:
                passed.append(value)
                target = _resolve(value, self._root)
                if target is _NOTHING:
                    return "points at nothing"
                if type(target) is dict and "$ref" in target:
                    value = target["$ref"]
                    continue
            self._ending.update(passed)
            return None
        return f"leads through more than {MAX_REF_HOPS} references"


def _resolve(reference: str, root: dict[str, Any]) -> Any:
    node: Any = root
    for part in reference.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if type(node) is list and key.isdecimal() and len(key) < 9 and int(key) < len(node):
            node = node[int(key)]
        elif type(node) is dict and key in node:
            node = node[key]
        else:
            return _NOTHING
    return node


def _wrong_type(value: Any) -> str | None:
    names = value if type(value) is list else [value]
    if names and all(type(name) is str and name in _TYPES for name in names):
        return None
    return f"must be one of {', '.join(sorted(_TYPES))}, or an array of them"


def _wrong_names(value: Any) -> str | None:
    good = type(value) is list and all(type(name) is str for name in value)
    return None if good else "must be an array of strings"


def _wrong_enum(value: Any) -> str | None:
    good = type(value) is list and 0 < len(value) <= MAX_ENUM
    return None if good else f"must be an array of 1 to {MAX_ENUM} values"


def _wrong_count(value: Any) -> str | None:
    good = type(value) is int and 0 <= value <= MAX_COUNT
    return None if good else f"must be an integer from 0 to {MAX_COUNT}"


def _wrong_limit(value: Any, *, above_zero: bool) -> str | None:
    if type(value) is not int and type(value) is not float:
        return "must be a number"
    return "must be above 0" if above_zero and value <= 0 else None


def _wrong_boolean(value: Any) -> str | None:
    return None if type(value) is bool else "must be a boolean"


def _wrong_text(value: Any) -> str | None:
    return None if type(value) is str else "must be a string"


_WRONG: Mapping[str, Callable[[Any], str | None]] = {
    "type": _wrong_type,
    "required": _wrong_names,
    "enum": _wrong_enum,
    "uniqueItems": _wrong_boolean,
    "format": _wrong_text,
}


def _short(place: str) -> str:
    """Return a place as an error may repeat it."""
    cut = place if len(place) <= 96 else place[:96] + "…"
    return "".join(char if char.isprintable() else "�" for char in cut)
