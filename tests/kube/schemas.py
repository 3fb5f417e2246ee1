"""The real schemas of what the API is sent: Kubernetes' own, strict, and those of KubeRay's definitions.

Kubernetes' come from the package ``kubernetes-validate``, KubeRay's from its own CustomResourceDefinitions
(version 1.7.0) in ``tests/data/kuberay``. Other custom kinds are known by name only: their objects are taken
as they are.
"""

import gzip
import importlib.resources
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.kube.kinds import Kind
from tests.kube.status import Cause, Object

DEFINITIONS = Path(__file__).resolve().parent.parent / "data" / "kuberay"
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_CORE = "kubernetes://core"


class Schemas:
    """The schemas of one minor version of Kubernetes."""

    def __init__(self, minor: str) -> None:
        self._definitions = _definitions(minor)
        document = DRAFT202012.create_resource({"$defs": self._definitions})
        self._registry: Registry[Any] = Registry().with_resource(_CORE, document)
        self._names = {
            (kind["group"], kind["version"], kind["kind"]): name
            for name, schema in self._definitions.items()
            for kind in schema.get("x-kubernetes-group-version-kind", ())
        }

    def shape(self, kind: Kind) -> "Shape":
        """Return what the schema of a kind says of lists and maps."""
        custom = custom_schema(kind)
        if custom is not None:
            metadata = self._definitions[_METADATA]
            root = {**custom, "properties": {**custom["properties"], "metadata": metadata}}
            return Shape(root, self._definitions)
        name = self._names.get((kind.group, kind.version, kind.kind))
        root = {"properties": {"metadata": self._definitions[_METADATA]}}
        return Shape(self._definitions[name] if name else root, self._definitions)

    def problems(self, kind: Kind, body: Object) -> Iterator[tuple[int, Cause]]:
        """Yield what is wrong with an object, each with the status that tells it."""
        custom = custom_schema(kind)
        if custom is not None:
            schema: Any = {
                **custom,
                "properties": {**custom["properties"], "metadata": self._reference(_METADATA)},
            }
            schema["required"] = [name for name in custom.get("required", ()) if name != "metadata"]
        elif name := self._names.get((kind.group, kind.version, kind.kind)):
            schema = self._reference(name)
        else:
            schema = {"properties": {"metadata": self._reference(_METADATA)}}
        validator = jsonschema.Draft202012Validator(schema, registry=self._registry)
        for error in validator.iter_errors(body):
            yield _problem(error, custom is not None)

    @staticmethod
    def _reference(name: str) -> Object:
        return {"$ref": f"{_CORE}#/$defs/{name}"}


class Shape:
    """One place in a schema: how its value is merged."""

    def __init__(self, node: Object, definitions: Object) -> None:
        while "$ref" in node:
            node = {
                **definitions[node["$ref"].rsplit("/", 1)[1]],
                **{k: v for k, v in node.items() if k != "$ref"},
            }
        self._node, self._definitions = node, definitions

    def field(self, name: str) -> "Shape":
        """Return the place of a field, or of a key of a map."""
        found = self._node.get("properties", {}).get(name) or self._node.get("additionalProperties")
        return Shape(found if isinstance(found, dict) else {}, self._definitions)

    @property
    def items(self) -> "Shape":
        """The place of a list's items."""
        return Shape(self._node.get("items", {}), self._definitions)

    @property
    def atomic(self) -> bool:
        """Whether a map is one value."""
        return bool(self._node.get("x-kubernetes-map-type") == "atomic")

    @property
    def is_set(self) -> bool:
        """Whether a list's items are its keys."""
        return bool(self._node.get("x-kubernetes-list-type") == "set")

    @property
    def list_keys(self) -> tuple[str, ...]:
        """The fields that tell a list's items apart for server-side apply; none: the list is one value."""
        mapped = self._node.get("x-kubernetes-list-type") == "map"
        return tuple(self._node.get("x-kubernetes-list-map-keys", ())) if mapped else ()

    @property
    def merge_key(self) -> str | None:
        """The field that tells a list's items apart for a strategic merge patch."""
        key: str | None = self._node.get("x-kubernetes-patch-merge-key")
        return key if "merge" in self._node.get("x-kubernetes-patch-strategy", "") else None

    @property
    def merges_values(self) -> bool:
        """Whether a strategic merge patch adds to a list of plain values."""
        return self.merge_key is None and "merge" in self._node.get("x-kubernetes-patch-strategy", "")


def defaulted(kind: Kind, body: Object) -> Object:
    """Return a custom object with its definition's defaults."""
    custom = custom_schema(kind)
    return _defaulted(custom, body) if custom is not None else body


def _defaulted(schema: Object, value: Any) -> Any:
    if isinstance(value, list):
        return [_defaulted(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    made = dict(value)
    for name, node in schema.get("properties", {}).items():
        if name not in made and "default" in node:
            made[name] = node["default"]
        if name in made:
            made[name] = _defaulted(node, made[name])
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        made = {name: _defaulted(more, item) for name, item in made.items()}
    return made


def broken_rules(kind: Kind, body: Object, old: Object | None) -> Iterator[Cause]:
    """Yield the definition's rules in CEL that an object breaks, for the two forms that KubeRay uses."""
    custom = custom_schema(kind)
    if custom is not None:
        yield from _broken(custom, body, old, "")


def _broken(schema: Object, value: Any, old: Any, path: str) -> Iterator[Cause]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule["rule"], value, old):
            yield Cause(path, "FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {rule['message']}")
    if isinstance(value, dict):
        for name, node in schema.get("properties", {}).items():
            if name in value:
                before = old.get(name) if isinstance(old, dict) else None
                yield from _broken(node, value[name], before, f"{path}.{name}".lstrip("."))


def _holds(rule: str, value: Any, old: Any) -> bool:
    if rule == "self == oldSelf":
        return old is None or value == old
    listed = re.fullmatch(r"self in \[(.*)\]", rule)
    if listed is None:
        raise NotImplementedError(f"a rule in CEL that this server cannot read: {rule}")
    return value in re.findall(r"'([^']*)'", listed[1])


@lru_cache
def custom_definitions() -> dict[str, Object]:
    """Return KubeRay's CustomResourceDefinitions by name."""
    found = [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(DEFINITIONS.glob("*.json.gz"))]
    return {definition["metadata"]["name"]: definition for definition in found}


@lru_cache
def custom_schema(kind: Kind) -> Object | None:
    """Return a custom kind's schema, closed: what it does not name is an error. None where there is none."""
    definition = custom_definitions().get(kind.resource)
    if definition is None:
        return None
    (version,) = [entry for entry in definition["spec"]["versions"] if entry["name"] == kind.version]
    closed: Object = _closed(version["schema"]["openAPIV3Schema"])
    return closed


def _closed(node: Any) -> Any:
    """Say in JSON Schema's words what a structural schema means."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {name: _closed(item) for name, item in node.items() if name != "properties"}
    if "properties" in node:
        made["properties"] = {name: _closed(item) for name, item in node["properties"].items()}
    if node.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    closed = not node.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in node
    if "properties" in node and closed:
        made["additionalProperties"] = False
    return made


@lru_cache
def _definitions(minor: str) -> Object:
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{minor}.0-local-strict" / "_definitions.json").read_text()
    definitions: Object = json.loads(text.replace('"#/$defs/', f'"{_CORE}#/$defs/'))["$defs"]
    return definitions


def _problem(error: jsonschema.ValidationError, custom: bool) -> tuple[int, Cause]:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    path = path.lstrip(".")
    if error.validator == "additionalProperties":
        instance, schema = cast(Object, error.instance), cast(Object, error.schema)
        (*_, name) = sorted(instance.keys() - schema.get("properties", {}).keys())
        return 400, Cause(path, "FieldValueInvalid", f'unknown field "{f"{path}.{name}".lstrip(".")}"')
    if error.validator == "required":
        (missing,) = re.findall(r"^'(.*)' is a required property", error.message)
        return 422, Cause(f"{path}.{missing}".lstrip("."), "FieldValueRequired", "Required value")
    if error.validator in {"type", "oneOf", "anyOf"} and not custom:
        given = type(error.instance).__name__
        return 400, Cause(path, "FieldValueTypeInvalid", f"cannot unmarshal {given} into field {path}")
    reason = "FieldValueTypeInvalid" if error.validator == "type" else "FieldValueInvalid"
    return 422, Cause(
        path, reason, f"Invalid value: {json.dumps(error.instance)[:80]}: {error.message[:200]}"
    )
