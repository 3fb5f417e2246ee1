"""The simplest value that a JSON schema allows, with a word of the prompt in its strings.

Covers what ``pydantic`` and OpenAI's strict mode write: types, enum, const, bounds, arrays, nested objects,
local references and the combinators' first branch. Patterns and string formats are not followed.
"""

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16
"""Depth at which an optional branch of a recursive schema is left out."""


def example(schema: Mapping[str, Any], word: str) -> Any:
    """Return a value that ``schema`` allows; strings are ``word`` where nothing else is demanded."""
    return _Maker(schema, word).value(schema, 0)


class _Maker:
    def __init__(self, root: Mapping[str, Any], word: str) -> None:
        self._root, self._word = root, word

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return self._word
        if "$ref" in schema:
            return self.value(self._resolve(str(schema["$ref"])), depth + 1)
        if "const" in schema or schema.get("enum"):
            return schema["const"] if "const" in schema else schema["enum"][0]
        for combinator in ("anyOf", "oneOf"):
            if schema.get(combinator):
                return self.value(self._branch(schema[combinator], depth), depth + 1)
        if schema.get("allOf"):
            return self.value(_merged(schema["allOf"]), depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = kind[0] if isinstance(kind, list) else kind
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = schema.get("required", ())
        names = [name for name in properties if name in required or depth < 1]
        return {name: self.value(properties[name], depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        wanted = int(schema.get("minItems", 0 if depth >= MAX_DEPTH else 1))
        return [self.value(schema.get("items", {}), depth + 1) for _ in range(wanted)]

    def _string(self, schema: Mapping[str, Any]) -> str:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        text = self._word if len(self._word) >= least else self._word.ljust(least, "x")
        return text if most is None else text[: int(most)]

    def _branch(self, branches: list[Any], depth: int) -> Any:
        if depth < MAX_DEPTH:
            return branches[0]
        return next((b for b in branches if isinstance(b, Mapping) and b.get("type") == "null"), branches[-1])

    def _resolve(self, reference: str) -> Any:
        here: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if not part:
                continue
            key = part.replace("~1", "/").replace("~0", "~")
            here = here.get(key, {}) if isinstance(here, Mapping) else {}
        return here


def _merged(schemas: list[Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for schema in schemas:
        whole |= {**schema, "properties": {**whole.get("properties", {}), **schema.get("properties", {})}}
    return whole if whole.get("properties") else {k: v for k, v in whole.items() if k != "properties"}


def _number(schema: Mapping[str, Any]) -> int | float:
    step = 1 if schema.get("type") == "integer" else 0.5
    if "minimum" in schema:
        return schema["minimum"]  # type: ignore[no-any-return]
    if "exclusiveMinimum" in schema:
        return schema["exclusiveMinimum"] + step  # type: ignore[no-any-return]
    if "maximum" in schema:
        return min(1, schema["maximum"])  # type: ignore[no-any-return]
    return 1
