"""The chart's Job: its plan is one, its command is one, and it runs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from loadtest.live.plan import Plan
from loadtest.live.slo import Objectives
from tests.helm.chart_docs import CHART
from tests.helm.rendering import Rendered, render
from tests.helm_tools import Tool
from tests.loadtest.live.system import ROOT, system

NAME = "gpt-oss-cluster-loadtest"
ENGINE = {"ttft_ms": 50, "inter_token_ms": 5, "slots": 64}
SHORT: dict[str, Any] = {
    "loadtest": {
        "enabled": True,
        "keySecret": "key",
        "plan": {
            "pace": {"mean_s": 0.3},
            "drain_s": 5,
            "shape": {"kind": "steady", "users": 5, "seconds": 3},
        },
        "objectives": {"efforts": {"low": {"ttft_s": {"p95": 5}}}, "least": 1},
    }
}


def job(rendered: Rendered) -> dict[str, Any]:
    """Return the Job's pod."""
    (found,) = [one for one in rendered.of("Job") if one["metadata"]["name"].startswith(NAME)]
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


def files(rendered: Rendered) -> dict[str, str]:
    """Return plan and objectives as the Job finds them."""
    data: dict[str, str] = rendered.named("ConfigMap", "-loadtest")["data"]
    return data


def test_plan_and_objectives_are_what_locust_reads(helm: Tool) -> None:
    """Those of the file of values that has everything, by the models that read them."""
    rendered = render(helm, None, CHART / "ci" / "everything-values.yaml")
    found = files(rendered)
    assert Plan.model_validate(yaml.safe_load(found["plan.yaml"])).shape.kind == "knee"
    assert set(Objectives.model_validate(yaml.safe_load(found["slo.yaml"])).efforts) == {"low", "medium"}
    mounts = {one["mountPath"] for one in job(rendered)["containers"][0]["volumeMounts"]}
    for argument in job(rendered)["containers"][0]["args"]:
        if argument.startswith("/"):
            assert any(argument.startswith(mount) for mount in mounts), argument


def test_there_is_none_by_default(helm: Tool) -> None:
    """Nobody loads a cluster unasked."""
    assert not [one for one in render(helm) if one["metadata"]["name"].startswith(NAME)]


def test_another_plan_is_another_job(helm: Tool) -> None:
    """A Job cannot be changed, and the same one is not run twice."""
    names = []
    for users in (5, 5, 6):
        test = {**SHORT["loadtest"], "plan": {"shape": {"users": users}}}
        names += [one["metadata"]["name"] for one in render(helm, {"loadtest": test}).of("Job")]
    assert len(names) == 3
    assert names[0] == names[1] != names[2]


@pytest.mark.integration
def test_its_command_runs(helm: Tool, tmp_path: Path) -> None:
    """As it stands but for paths and address, against the gateway and the simulated engine."""
    rendered = render(helm, SHORT)
    for name, text in files(rendered).items():
        (tmp_path / name).write_text(text)
    with system(tmp_path, engine=ENGINE) as live:
        (tmp_path / "api-key").write_text(live.key)
        moved = {
            "/etc/gpt-oss-cluster/loadtest-key": str(tmp_path),
            "/etc/gpt-oss-cluster/loadtest": str(tmp_path),
            "/results": str(tmp_path),
            "http://gpt-oss-cluster-gateway:8080/v1": live.base_url,
        }
        arguments = job(rendered)["containers"][0]["args"]
        for old, new in moved.items():
            arguments = [argument.replace(old, new) for argument in arguments]
        environment = {**live.environment(), "OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}
        done = subprocess.run(
            [sys.executable, "-m", "cluster", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1" in (tmp_path / "run" / "report.html").read_text()
    assert orjson.loads((tmp_path / "run" / "run.json").read_bytes())["held"] is True
    assert "time to first token p95" in " ".join(done.stdout.split())
