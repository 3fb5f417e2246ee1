"""Facts about the JSON Schemas that clients send."""

from typing import Any

import pytest

from cluster.core.schema import (
    MAX_BYTES,
    MAX_ENUM,
    MAX_LEVELS,
    MAX_SCHEMAS,
    SchemaError,
    Spent,
    check_schema,
)


def nested(levels: int) -> dict[str, Any]:
    """Return a schema of so many levels."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({}, id="anything"),
        pytest.param(
            {"type": ["string", "null"], "description": "d", "default": {"type": 1}}, id="annotations"
        ),
        pytest.param({"properties": {"enum": {"type": "string"}, "$ref": True}}, id="keywords-as-names"),
        pytest.param({"enum": [None, 1, "a", {"type": "x"}]}, id="enum-of-anything"),
        pytest.param({"anyOf": [{"const": 1}, {"not": {}}]}, id="any-of"),
        pytest.param(
            {
                "$defs": {
                    "node": {"properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
                },
                "$ref": "#/$defs/node",
            },
            id="recursive",
        ),
        pytest.param({"properties": {"a/b": {}, "c": {"$ref": "#/properties/a~1b"}}}, id="escaped-pointer"),
        pytest.param({"anyOf": [{"type": "string"}, {"$ref": "#/anyOf/0"}]}, id="pointer-into-a-list"),
        pytest.param({"type": "string", "pattern": r"^(?<year>\d{4})-\d{2}$"}, id="ecmascript-named-group"),
        pytest.param({"type": "string", "maxLength": 65535}, id="long-string"),
        pytest.param(nested(MAX_LEVELS), id="deepest"),
        pytest.param({"enum": list(range(MAX_ENUM))}, id="longest-enum"),
    ],
)
def test_sound_schemas_pass(schema: dict[str, Any]) -> None:
    """Schemas as real tools have them are accepted."""
    check_schema(schema)


def _doubling(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"anyOf": [schema, schema]}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        pytest.param({"type": "strung"}, "type must be one of", id="unknown-type"),
        pytest.param({"type": []}, "type must be one of", id="no-type"),
        pytest.param({"type": [{}]}, "type must be one of", id="type-of-objects"),
        pytest.param({"properties": []}, "properties must be an object", id="properties-array"),
        pytest.param({"properties": {"a": "string"}}, "properties.a must be an object", id="property-word"),
        pytest.param({"properties": {"a": {"items": 1}}}, "properties.a.items must be", id="items-number"),
        pytest.param({"anyOf": []}, "non-empty array", id="empty-any-of"),
        pytest.param({"allOf": {}}, "non-empty array", id="all-of-object"),
        pytest.param({"required": "a"}, "required must be an array of strings", id="required-word"),
        pytest.param({"required": [1]}, "required must be an array of strings", id="required-number"),
        pytest.param({"enum": []}, "1 to 1000 values", id="empty-enum"),
        pytest.param({"enum": list(range(MAX_ENUM + 1))}, "1 to 1000 values", id="long-enum"),
        pytest.param({"minItems": 10**9}, "integer from 0 to 100000", id="a-billion-items"),
        pytest.param({"maxLength": -1}, "integer from 0 to 100000", id="negative-length"),
        pytest.param({"minLength": True}, "integer from 0 to 100000", id="boolean-length"),
        pytest.param({"pattern": "["}, "not a regular expression", id="broken-pattern"),
        pytest.param({"pattern": 1}, "must be a string", id="pattern-number"),
        pytest.param({"pattern": "a" * 513}, "at most 512", id="long-pattern"),
        pytest.param({"pattern": "(a{1,100000})"}, "repeats more than 1000", id="pattern-bomb"),
        pytest.param({"pattern": "((a{100}){100}){100}"}, "pattern is longer than", id="nested-pattern-bomb"),
        pytest.param({"patternProperties": {"(": {}}}, "patternProperties is not a reg", id="broken-key"),
        pytest.param({"minimum": "1"}, "minimum must be a number", id="limit-word"),
        pytest.param({"maximum": True}, "maximum must be a number", id="limit-boolean"),
        pytest.param({"multipleOf": 0}, "multipleOf must be above 0", id="multiple-of-zero"),
        pytest.param({"uniqueItems": "yes"}, "uniqueItems must be a boolean", id="unique-word"),
        pytest.param({"format": 1}, "format must be a string", id="format-number"),
        pytest.param({"minItems": 2, "maxItems": 1}, "minItems must not be above maxItems", id="no-length"),
        pytest.param({"properties": {"a": {"minimum": 2, "maximum": 1}}}, r"a\.minimum must", id="no-value"),
        pytest.param({"properties": {"a\x1b[31m": 1}}, "^properties.a\ufffd\\[31m must be", id="ansi"),
        pytest.param({"$ref": "https://example.com/schema"}, "into the schema itself", id="remote-reference"),
        pytest.param({"$ref": "file:///etc/passwd"}, "into the schema itself", id="file-reference"),
        pytest.param({"$ref": "#/$defs/none"}, "points at nothing", id="dangling-reference"),
        pytest.param({"$ref": "#"}, "more than 16 references", id="reference-to-itself"),
        pytest.param(
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
            "more than 16 references",
            id="reference-circle",
        ),
        pytest.param(nested(MAX_LEVELS + 1), "deeper than 20", id="too-deep"),
        pytest.param(_doubling(14), "larger than 65536 bytes", id="doubling"),
        pytest.param({"anyOf": [{}] * MAX_SCHEMAS}, "more than 4000 schemas", id="too-many"),
        pytest.param({"description": "x" * MAX_BYTES}, "larger than 65536 bytes", id="too-large"),
    ],
)
def test_unsound_schemas_are_named(schema: dict[str, Any], reason: str) -> None:
    """A schema that would break or stall a grammar compiler is refused, with the place and the reason."""
    with pytest.raises(SchemaError, match=reason):
        check_schema(schema)


@pytest.mark.parametrize(("schema", "reason"), [
    ({"anyOf": [{}] * 2000}, "more than 10000 schemas"), ({"pattern": "a" * 512}, "one pattern too many"),
])  # fmt: skip
def test_the_schemas_of_a_request_share_bounds(schema: dict[str, Any], reason: str) -> None:
    """Many tools, each within the bounds of one schema, cost as much as one that is too large."""
    spent = Spent()
    with pytest.raises(SchemaError, match=reason):
        for _ in range(40):
            check_schema(schema, spent)
    check_schema(schema)
