"""What helm makes of the chart: its objects, and how to find one of them."""

import json
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.helm.chart_docs import CHART
from tests.helm_tools import Tool, ToolError

RELEASE = "gpt-oss-cluster"
NAMESPACE = "ai"
Object = dict[str, Any]


class Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, which YAML forbids and most readers hide."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"twice in one mapping: {twice}{node.start_mark}"
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True)
class Rendered:
    """The objects of one rendering."""

    objects: list[Object]

    def __iter__(self) -> Iterator[Object]:
        """Go through all of them."""
        return iter(self.objects)

    def named(self, kind: str, suffix: str = "") -> Object:
        """Return the one object of a kind whose name is the release's and a suffix."""
        found = [one for one in self.of(kind) if one["metadata"]["name"] == RELEASE + suffix]
        assert len(found) == 1, f"{len(found)} {kind} {RELEASE}{suffix}"
        return found[0]

    def of(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        return [one for one in self if one["kind"] == kind]

    @property
    def settings(self) -> Object:
        """The settings document."""
        text = self.named("ConfigMap", "-config")["data"]["config.yaml"]
        document: Object = yaml.load(text, Loader)
        return document

    @property
    def cluster(self) -> Object:
        """The RayCluster's specification."""
        spec: Object = self.named("RayService")["spec"]["rayClusterConfig"]
        return spec

    @property
    def serve(self) -> Object:
        """The Serve config."""
        config: Object = yaml.safe_load(self.named("RayService")["spec"]["serveConfigV2"])
        return config

    def pods(self) -> dict[str, Object]:
        """Return every pod that the objects describe, those inside the RayService too, by what makes them."""
        found = {}
        for one in self:
            name = f"{one['kind']}/{one['metadata']['name']}"
            if one["kind"] == "RayService":
                cluster = one["spec"]["rayClusterConfig"]
                found[f"{name}/head"] = cluster["headGroupSpec"]["template"]
                for group in cluster["workerGroupSpecs"]:
                    found[f"{name}/{group['groupName']}"] = group["template"]
            elif one["kind"] == "Pod":
                found[name] = one
            elif "template" in one.get("spec", {}):
                found[name] = one["spec"]["template"]
        return found


def render(
    helm: Tool, values: Object | None = None, *files: Path, release: str = RELEASE, chart: Path = CHART
) -> Rendered:
    """Render the chart; raise `ToolError` with what helm said where it refuses."""
    given = [argument for file in files for argument in ("--values", str(file))]
    if values is not None:
        given += ["--values", "-"]
    command = ["template", release, str(chart), "--namespace", NAMESPACE, *given]
    done = helm(*command, text=json.dumps(values or {}))
    return Rendered([one for one in yaml.load_all(done.stdout, Loader) if one])


def refusal(helm: Tool, values: Object) -> str:
    """Return what helm says of values that it refuses."""
    try:
        render(helm, values)
    except ToolError as error:
        return str(error)
    raise AssertionError("the chart was rendered")


def value_files() -> list[Path]:
    """Return every values file that the chart comes with."""
    return sorted((CHART / "ci").glob("*.yaml")) + sorted((CHART / "examples").glob("*.yaml"))
