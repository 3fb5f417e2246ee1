"""The alerts as helm renders them, and promtool, which evaluates them on made series."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import helm_tools
from tests import promtool as fetched
from tests.helm.chart_docs import CHART
from tests.helm.rendering import Rendered, render
from tests.helm_tools import Tool

RUNBOOK = "https://wiki.example.com/runbook"
PARTS = ("serviceMonitor", "podMonitor", "rules", "dashboards")
TLS = {
    "ingress": {"enabled": True, "host": "ai.example.com"},
    "tls": {"certManager": {"enabled": True, "issuerRef": {"name": "ca"}}},
}
ON = {"monitoring": {part: {"enabled": True} for part in PARTS}, **TLS}
"""Values with all monitoring on, and a certificate to look after."""


def rendered(**changes: dict[str, Any]) -> Rendered:
    """Return the objects of the chart with all monitoring on; skip where helm is missing.

    ``changes`` are values by section, laid over those.
    """
    path = helm_tools.program("helm-4")
    if path is None:
        pytest.skip(f"helm is missing: {helm_tools.FETCH}")
    values = {name: laid_over(ON.get(name, {}), changes.get(name, {})) for name in (*ON, *changes)}
    return render(Tool(path, CHART, name="helm-4"), values)


def laid_over(below: Any, above: Any) -> Any:
    """Return ``above`` over ``below``, as helm lays values over each other."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{name: laid_over(below.get(name), value) for name, value in above.items()}}


@cache
def groups() -> list[dict[str, Any]]:
    """Return the groups of rules."""
    (rule,) = rendered(monitoring={"rules": {"runbookUrl": RUNBOOK}}).of("PrometheusRule")
    found: list[dict[str, Any]] = rule["spec"]["groups"]
    return found


def group_of(alert: str) -> dict[str, Any]:
    """Return the group of an alert."""
    (found,) = [group for group in groups() if any(rule.get("alert") == alert for rule in group["rules"])]
    return found


def rules() -> list[dict[str, Any]]:
    """Return all rules."""
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(folder: Path, **documents: Any) -> "subprocess.CompletedProcess[str]":
    """Run ``promtool`` on files of these documents, ``rules`` checked and ``test`` evaluated.

    Skips where it is missing.
    """
    program = fetched.program()
    if program is None:
        pytest.skip(fetched.HINT)
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    what = "test" if "test" in documents else "check"
    return subprocess.run(
        [program, what, "rules", str(folder / ("test.yaml" if what == "test" else "rules.yaml"))],
        check=False,
        capture_output=True,
        text=True,
    )
