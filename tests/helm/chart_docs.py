"""The chart's values.schema.json, README.md and files/serving.json, written from what they follow from.

``python -m tests.helm.chart_docs`` writes them; a test holds them to it. In values.yaml the comment directly
above a value is its documentation, ``# @schema {…}`` adds to its schema, ``# @free`` says that Kubernetes and
not the chart decides what may stand in it, and ``# @settings`` that the settings document does.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from cluster.serving import deploy, profiles
from cluster.settings import PoolSettings, Settings

CHART = Path(__file__).resolve().parents[2] / "helm" / "gpt-oss-cluster"
TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "null": "null"}
DIRECTIVE = re.compile(r"@(schema|free|settings)\b ?(.*)")


@dataclass(frozen=True)
class Value:
    """One value of values.yaml."""

    path: tuple[str, ...]
    node: Node
    lines: tuple[str, ...]
    """The comment lines directly above it, without their marks."""

    @property
    def text(self) -> str:
        """Return its documentation."""
        return " ".join(line for line in self.lines if not line.startswith("@"))

    @cached_property
    def directives(self) -> dict[str, str]:
        """What is said to the generator."""
        matches = [DIRECTIVE.fullmatch(line) for line in self.lines if line.startswith("@")]
        assert all(matches), f"{'.'.join(self.path)}: unknown directive in {self.lines}"
        return {match[1]: match[2] for match in matches if match}

    @property
    def default(self) -> Any:
        """Return the default."""
        return yaml.safe_load(yaml.serialize(self.node))

    @property
    def is_section(self) -> bool:
        """Whether its own entries are documented, rather than it as a whole."""
        return isinstance(self.node, MappingNode) and bool(self.node.value) and not self.directives


def values(text: str) -> list[Value]:
    """Return every documented value, in the order of the file."""
    root = yaml.compose(text)
    assert isinstance(root, MappingNode)
    return list(_below((), root, text.splitlines()))


def _below(path: tuple[str, ...], node: MappingNode, source: list[str]) -> Iterator[Value]:
    for key, child in node.value:
        above: list[str] = []
        row = key.start_mark.line - 1
        while row >= 0 and source[row].strip().startswith("#"):
            above.insert(0, source[row].strip().lstrip("#").strip())
            row -= 1
        value = Value((*path, key.value), child, tuple(above))
        assert value.text, f"values.yaml: {'.'.join(value.path)} has no comment above it"
        yield value
        if value.is_section:
            assert isinstance(child, MappingNode)
            yield from _below(value.path, child, source)


def schema(documented: list[Value]) -> dict[str, Any]:
    """Return the JSON Schema of the values: unknown ones fail."""
    settings = settings_schema()
    root: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart gpt-oss-cluster",
        "type": "object",
        "properties": {},
        "additionalProperties": False,
        "$defs": settings.pop("$defs"),
    }
    for value in documented:
        place = root
        for name in value.path[:-1]:
            place = place["properties"][name]
        described = settings if "settings" in value.directives else _described(value)
        place["properties"][value.path[-1]] = {"description": value.text.replace("`", ""), **described}
    return root


def _described(value: Value) -> dict[str, Any]:
    added = yaml.safe_load(value.directives.get("schema") or "{}")
    if isinstance(value.node, ScalarNode):
        return {"type": TYPES[value.node.tag.rpartition(":")[2]], **added}
    if not isinstance(value.node, MappingNode):
        return {"type": "array", **added}
    if value.is_section:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **added}


def settings_schema() -> dict[str, Any]:
    """Return the schema of the settings document as ``config`` may have it.

    Nothing is required, for the chart adds some and defaults stand for some. What Helm's validators do not
    know is taken out.
    """
    whole: dict[str, Any] = _without(Settings.model_json_schema())
    return whole


def _without(part: Any) -> Any:
    if isinstance(part, list):
        return [_without(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {}
    for name, item in part.items():
        # a property may have one of these names: its value is then a schema, which is a mapping
        words = name in {"required", "title", "default", "discriminator", "format"}
        if words and not (name != "discriminator" and isinstance(item, dict) and "type" in item):
            continue
        kept["anyOf" if name == "oneOf" else name] = _without(item)
    return kept


def serving_facts() -> dict[str, Any]:
    """Return what the templates know of the serving code."""
    pool = PoolSettings(model="gpt-oss-20b", profile="cpu")
    scaling = deploy.autoscaling(pool)
    policy = scaling["policy"].pop("policy_kwargs")
    for name in ("min_replicas", "max_replicas"):
        del scaling[name]
    known: dict[str, dict[str, Any]] = {}
    for profile in profiles.PROFILES:
        gib = round(profile.gpu_bytes / 1024**3, 1)
        known.setdefault(profile.model, {})[profile.name] = {
            "accelerator": profile.accelerator or "",
            "gib": gib,
        }
    return {
        "import_path": deploy.IMPORT_PATH,
        "autoscaling": scaling,
        "scaling": policy,
        "auth": deploy.NO_AUTH,
        "profiles": known,
    }


def readme(documented: list[Value]) -> str:
    """Return the chart's README: its head as it stands, and the table of values."""
    head = (CHART / "README.head.md").read_text().rstrip()
    rows = [
        f"| `{'.'.join(value.path)}` | {value.text.replace('|', chr(92) + '|')} | {_shown(value)} |"
        for value in documented
        if not value.is_section
    ]
    return "\n".join([head, "", "| value | meaning | default |", "|---|---|---|", *rows, ""])


def _shown(value: Value) -> str:
    text = json.dumps(value.default, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 80 else "see values.yaml"


def files() -> dict[str, str]:
    """Return every generated file of the chart with its text."""
    documented = values((CHART / "values.yaml").read_text())
    return {
        "values.schema.json": json.dumps(schema(documented), indent=1, ensure_ascii=False) + "\n",
        "files/serving.json": json.dumps(serving_facts(), indent=1) + "\n",
        "README.md": readme(documented),
    }


if __name__ == "__main__":
    for name, text in files().items():
        (CHART / name).write_text(text)
