"""What the chart renders is what the API servers of three minors, and KubeRay's definitions, accept."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helm.rendering import Object, Rendered, render, value_files
from tests.helm_tools import Tool
from tests.kube import rules, schemas
from tests.kube.kinds import KINDS

MINORS = ("1.30", "1.33", "1.37")
BY_NAME = {(kind.api_version, kind.kind): kind for kind in KINDS}


def wrong(objects: list[Object], minor: str) -> Iterator[str]:
    """Yield what that minor's API server would say against any of the objects."""
    known = schemas.Schemas(minor)
    for one in objects:
        kind = BY_NAME.get((one["apiVersion"], one["kind"]))
        name = f"{one['kind']}/{one['metadata']['name']}"
        if kind is None:
            yield f"{name}: unknown kind {one['apiVersion']}"
            continue
        whole = schemas.defaulted(kind, one)
        yield from (f"{name}: {cause}" for _, cause in known.problems(kind, whole))
        yield from (f"{name}: {cause}" for cause in rules.broken(kind, whole, None))
        yield from (f"{name}: {cause}" for cause in schemas.broken_rules(kind, whole, None))


@pytest.mark.parametrize("path", [None, *value_files()], ids=lambda path: path.stem if path else "defaults")
@pytest.mark.parametrize("minor", MINORS)
def test_an_api_server_accepts_it(helm: Tool, path: Path | None, minor: str) -> None:
    """Strictly: no unknown field, no missing one, none of another type."""
    assert list(wrong(render(helm, None, *([path] if path else [])).objects, minor)) == []


@pytest.mark.parametrize("minor", MINORS)
def test_pods_inside_the_ray_service_are_whole(default: Rendered, minor: str) -> None:
    """KubeRay's definition leaves parts of pods open; as plain pods they pass too."""
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        for name, template in default.pods().items()
        if name.startswith("RayService")
    ]
    assert len(pods) == 2
    assert list(wrong(pods, minor)) == []


@pytest.mark.parametrize("field", ["maxReplica", "template.spec.container"])
def test_a_typing_mistake_in_a_worker_group_is_found(default_service: Object, field: str) -> None:
    """The schemas are closed."""
    place = default_service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    *way, last = field.split(".")
    for step in way:
        place = place[step]
    place[last] = copy.deepcopy(place.get("maxReplicas", 1))
    assert any(last in problem for problem in wrong([default_service], "1.37"))


def test_lint_is_strict(helm: Tool) -> None:
    """Helm's own linter has no warning, whatever the values."""
    from tests.helm.chart_docs import CHART  # noqa: PLC0415 - this test alone needs the folder

    for path in value_files():
        helm("lint", "--strict", str(CHART), "--values", str(path))
