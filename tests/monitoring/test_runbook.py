"""Every alert has its section in the runbook, and the section helps."""

import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from cluster.cli import app
from tests.monitoring import dashboards, rules

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "runbook.md").read_text()


def sections() -> dict[str, str]:
    """Return the sections by their headings."""
    return dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_each_alert_has_its_section_and_no_section_is_left_over() -> None:
    """A runbook's link never leads nowhere."""
    assert sorted(sections()) == sorted(rules.alerts())


@pytest.mark.parametrize("alert", sorted(sections()))
def test_a_section_says_what_it_means_how_to_see_it_and_what_to_do(alert: str) -> None:
    """In this order, each in a sentence at least."""
    parts = re.split(r"^\*\*(Means|See|Do)\.\*\* ", sections()[alert], flags=re.MULTILINE)
    assert parts[1::2] == ["Means", "See", "Do"]
    assert all(len(part.split()) >= 3 and part.rstrip().endswith(".") for part in parts[2::2]), parts


def test_links_to_sections_lead_to_one() -> None:
    """Alerts refer to each other by the anchors that their headings have."""
    anchors = set(re.findall(r"\]\(#([^)]*)\)", TEXT))
    assert anchors <= {heading.lower() for heading in sections()}
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert (DOCS / target).exists(), target


def test_commands_and_dashboards_exist() -> None:
    """What the runbook tells to run and to look at is there."""
    group = get_command(app)
    known = set(group.list_commands(typer.Context(group)))  # type: ignore[attr-defined]
    told = set(re.findall(r"gpt-oss-cluster ([a-z][a-z-]+)", TEXT))
    assert told
    assert told <= known
    rows = [row for dashboard in dashboards.ALL for row in dashboard.rows]
    titles = {row.title for row in rows} | {panel.title for row in rows for panel in row.panels}
    shown = re.findall(r"\*[^*]+\*, \"([^\"]+)\"", TEXT)
    assert shown
    assert set(shown) <= titles
