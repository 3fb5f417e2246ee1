"""Dashboards and rules ask only for what is exported, and the chart ships each dashboard in a ConfigMap."""

import importlib.util
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import contract_document as contract
from tests.monitoring import dashboards, exported, promql, rules
from tests.monitoring.grafana import HEIGHT, WIDTH, Dashboard

ROOT = Path(__file__).resolve().parents[2]


def recorded() -> dict[str, frozenset[str]]:
    """Return what the rules record, with its labels: those that it is grouped by, or that it is given."""
    found: dict[str, frozenset[str]] = {}
    for rule in rules.rules():
        if "record" in rule:
            grouped = re.match(r"sum by \(([^)]*)\)", rule["expr"])
            labels = grouped[1].split(", ") if grouped else rule["labels"]
            found[rule["record"]] = frozenset(labels)
    return found


@pytest.fixture(scope="module")
def names() -> dict[str, frozenset[str]]:
    """Return every name that there is, with its labels."""
    return exported.known(recorded())


def targets(dashboard: Dashboard) -> list[dict[str, Any]]:
    """Return the queries of a dashboard's panels."""
    return [target for panel in dashboard.json()["panels"] for target in panel.get("targets", ())]


@pytest.mark.parametrize("dashboard", dashboards.ALL, ids=lambda one: one.name)
def test_a_dashboard_asks_for_what_is_exported(
    dashboard: Dashboard, names: dict[str, frozenset[str]]
) -> None:
    """Every expression parses, and every metric and label in it exists; so do the labels of legends."""
    for target in targets(dashboard):
        assert exported.unknown(target["expr"], names) == [], target["expr"]
        used = promql.used(target["expr"])
        shown = promql.legend_labels(target["legendFormat"])
        assert any(shown <= names[metric] | exported.TARGET for metric, _ in used), target


def test_rules_ask_for_what_is_exported(names: dict[str, frozenset[str]]) -> None:
    """The same of the rules."""
    for rule in rules.rules():
        assert exported.unknown(rule["expr"], names) == [], rule["expr"]


@pytest.mark.parametrize(("expression", "wrong"), [
    ("sum by (effort) (rate(gptoss_requests_total[5m]))", []),
    ("gptoss_request_total", ["gptoss_request_total"]),
    ("sum by (efort) (gptoss_in_flight)", ["gptoss_in_flight: efort"]),
    ('gptoss_in_flight{tenant="a"}', ["gptoss_in_flight: tenant"]),
    ("gptoss_in_flight / on (pool) gptoss_waiting", ["gptoss_in_flight: pool"]),
    ("gptoss_e2e_seconds", ["gptoss_e2e_seconds"]),
])  # fmt: skip
def test_a_wrong_name_is_found(expression: str, wrong: list[str], names: dict[str, frozenset[str]]) -> None:
    """Metrics that are not there, labels that they do not have, and a histogram without its suffix."""
    assert exported.unknown(expression, names) == wrong


def test_every_metric_of_a_gateway_is_looked_at() -> None:
    """No metric of the contract is exported for nobody."""
    for metric in contract.METRICS:
        assert asked() & {metric, f"{metric}_bucket"}, metric


@pytest.mark.parametrize("dashboard", dashboards.ALL, ids=lambda one: one.name)
def test_a_dashboards_file_is_what_it_was_written_from(dashboard: Dashboard) -> None:
    """``python -m tests.monitoring.dashboards`` writes the files."""
    assert (dashboards.FOLDER / f"{dashboard.name}.json").read_text() == dashboards.text(dashboard)
    assert len(list(dashboards.FOLDER.iterdir())) == len(dashboards.ALL)


@pytest.mark.parametrize("dashboard", dashboards.ALL, ids=lambda one: one.name)
def test_panels_have_their_place(dashboard: Dashboard) -> None:
    """No panel overlaps another, each is within the grid, and ids are different."""
    panels = dashboard.json()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        fields = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not fields & taken
        assert place["x"] + place["w"] <= WIDTH
        assert place["h"] in (1, HEIGHT)
        taken |= fields
    assert all(before["gridPos"]["y"] <= after["gridPos"]["y"] for before, after in pairwise(panels))


@pytest.mark.parametrize("dashboard", dashboards.ALL, ids=lambda one: one.name)
def test_variables_are_known_and_used(dashboard: Dashboard) -> None:
    """Every variable in an expression is one of the dashboard's or Grafana's own."""
    made = dashboard.json()
    defined = {one["name"] for one in made["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", json.dumps([target["expr"] for target in targets(dashboard)])))
    assert used - {"__rate_interval", "__range"} <= defined
    assert {one.name for one in dashboard.variables} <= used


def test_each_dashboard_is_a_configmap_of_its_own() -> None:
    """With the label that Grafana's sidecar looks for, and well below the size that a ConfigMap may have."""
    made = rules.rendered(monitoring={"dashboards": {"labels": {"team": "ai"}}})
    maps = [one for one in made.of("ConfigMap") if "-dashboard-" in one["metadata"]["name"]]
    assert len(maps) == len(dashboards.ALL)
    for one in maps:
        assert one["metadata"]["labels"].items() >= {"grafana_dashboard": "1", "team": "ai"}.items()
        ((name, text),) = one["data"].items()
        assert text.strip() == (dashboards.FOLDER / name.removeprefix("gpt-oss-")).read_text().strip()
        assert len(text) < 200_000


def asked() -> set[str]:
    """Return every metric that a dashboard or a rule selects."""
    expressions = [target["expr"] for dashboard in dashboards.ALL for target in targets(dashboard)]
    expressions += [rule["expr"] for rule in rules.rules()]
    return {metric for expression in expressions for metric, _ in promql.used(expression)}


def test_what_is_asked_of_ray_is_in_the_installed_sources() -> None:
    """The record of what Ray exports is as old as its release: the installed one has the same names."""
    specs = [importlib.util.find_spec(name) for name in ("ray", "vllm")]
    if not all(specs):
        pytest.skip("Ray and vLLM are not installed")
    packages = Path(str(specs[0].origin)).parent.parent  # type: ignore[union-attr]
    folders = ("ray/serve/_private", "ray/dashboard/modules/reporter", "vllm/v1/metrics")
    sources = [path for folder in folders for path in (packages / folder).rglob("*.py")]
    sources += (ROOT / "cluster" / "serving").glob("*.py")
    text = "".join(path.read_text() for path in sources)
    own = {name for name in asked() if name.startswith("ray_")}
    assert len(own) > 20
    for name in own:
        bare = re.sub("_(total|bucket)$", "", name.removeprefix("ray_"))
        assert f'"{bare.replace("vllm_", "vllm:", 1)}"' in text, name
