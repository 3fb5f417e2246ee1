"""docs/upgrade.md names commands, options and values that exist, and costs that the chart keeps."""

import re
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.main import get_command

from cluster.cli import app
from tests.helm.chart_docs import CHART
from tests.helm.rendering import render
from tests.helm_tools import Tool

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "upgrade.md").read_text()


def test_every_command_and_option_exists() -> None:
    """Each line that begins with our command is one that the command line takes."""
    group = get_command(app)
    context = typer.Context(group)
    lines = re.findall(r"gpt-oss-cluster ([a-z-]+)([^\n`|]*)", PAGE)
    assert len(lines) > 5
    for name, rest in lines:
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        assert command is not None, name
        known = {option for one in command.params for option in one.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest.split("#")[0])) <= known, (name, rest)


def test_every_value_exists() -> None:
    """What is called a value of the chart is one."""
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    named = set(re.findall(r"`(ray\.[a-zA-Z.]+|limits\.[a-z_.]+)`", PAGE))
    assert named
    for name in named:
        place: Any = values["config"] if name.startswith("limits.") else values
        for part in name.rstrip(".").split("."):
            assert part in place, name
            place = place[part]


def test_links_lead_somewhere() -> None:
    """Every relative link names a file."""
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (DOCS / target).exists(), target


def test_what_is_said_to_be_in_place_changes_no_pod_of_ray(helm: Tool) -> None:
    """Engine flags, sources of weights and the gateway's settings leave the Ray cluster's spec alone."""
    before = render(helm)
    pool = {"max_num_seqs": 7, "max_model_len": 8192, "routing": {"tokens": 2}}
    changed = {
        "serving": {"pools": {"gpt-oss-20b": pool}},
        "models": {"gpt-oss-20b": {"source": "/models/gpt-oss-20b-new"}},
        "gateway": {"max_body_bytes": 1000},
    }
    after = render(helm, {"config": changed, "images": {"gateway": {"tag": "9.9.9"}}})
    assert after.serve != before.serve
    assert after.cluster == before.cluster


def test_what_is_said_to_need_a_drain_changes_them(helm: Tool) -> None:
    """The engine image and the one clock are parts of the pods."""
    before = render(helm).cluster
    assert render(helm, {"images": {"engine": {"tag": "9.9.9"}}}).cluster != before
    assert render(helm, {"config": {"limits": {"max_request_s": 600}}}).cluster != before
