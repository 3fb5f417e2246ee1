"""Each alert fires where it should and nowhere else: promtool evaluates the rules that helm renders."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.helm.rendering import NAMESPACE, RELEASE
from tests.monitoring import rules
from tests.monitoring.alert_cases import CASES, Case
from tests.monitoring.rules import RUNBOOK

GATEWAY, RAY = f"{RELEASE}-gateway", f"{RELEASE}-ray"


def labelled(series: str) -> str:
    """Return a series with the labels of the gateways or of Ray."""
    owner, _, rest = series.rpartition(" ")
    jobs = {"ray": RAY, "cert-manager": "cert-manager"}
    job = jobs.get(owner, RAY if rest.startswith("ray_") else GATEWAY)
    given = f'namespace="{NAMESPACE}",job="{job}"'
    return rest.replace("{", "{" + given + ",", 1)


def evaluation(case: Case, series: dict[str, str], alerts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a test for promtool."""
    return {
        "interval": "1m",
        "input_series": [{"series": labelled(name), "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}],
    }


def expected(case: Case) -> dict[str, Any]:
    """Return the alert that fires."""
    rule = rules.alerts()[case.alert]
    names = [name for name in (GATEWAY, RAY) if f'job="{name}"' in rule["expr"]] or ["cert-manager"]
    job = {} if case.bare else {"job": names[0]}
    return {
        "exp_labels": {**rule["labels"], **job, **case.labels},
        "exp_annotations": {"summary": case.says, "runbook_url": f"{RUNBOOK}#{case.alert.lower()}"},
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_where_it_should_and_nowhere_else(case: Case, tmp_path: Path) -> None:
    """It fires with its labels, its words and its runbook, and is silent on series that are only close."""
    tests = [evaluation(case, case.fires, [expected(case)])]
    tests += [evaluation(case, series, []) for series in case.quiet]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    done = rules.promtool(tmp_path, rules={"groups": [rules.group_of(case.alert)]}, test=document)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_all_rules(tmp_path: Path) -> None:
    """Expressions, durations and templates of every rule are well formed, and no rule is there twice."""
    done = rules.promtool(tmp_path, rules={"groups": rules.groups()})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules.rules())} rules found" in done.stdout


def test_every_alert_is_evaluated() -> None:
    """Each alert has its case, with at least one in which it is silent."""
    assert sorted(case.alert for case in CASES) == sorted(rules.alerts())
    assert all(case.quiet for case in CASES)


def test_severities_are_of_three_kinds_and_namespaces_are_told() -> None:
    """``critical`` wakes somebody, ``warning`` waits for the morning, ``info`` is for whoever asks.

    Each names the namespace, also where nothing is left that has one, so that it can be sent to its owner.
    """
    assert all(rule["labels"]["namespace"] == NAMESPACE for rule in rules.alerts().values())
    assert {rule["labels"]["severity"] for rule in rules.alerts().values()} == {"critical", "warning", "info"}


def test_every_expression_looks_at_this_release_only() -> None:
    """Every selector names the namespace and the job, so that two releases never alert for each other."""
    for rule in rules.rules():
        if "certmanager_" in rule["expr"]:
            assert rule["expr"].count(f'{{name="{GATEWAY}"}}') == 2
            continue
        selectors = re.findall(r"[a-z_:0-9]+\{[^}]*\}", rule["expr"])
        assert selectors or rule["expr"].startswith("vector(")
        for selector in selectors:
            assert f'{{namespace="{NAMESPACE}",job="{RELEASE}-' in selector, rule["expr"]
