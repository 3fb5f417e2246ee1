"""The documents say what the code does."""

import ast
import re
from pathlib import Path

import pytest
import typer
import yaml
from typer.main import get_command

from cluster import settings
from cluster.cli import app
from cluster.core.accounting import Outcome
from cluster.gateway.http_errors import FORMS
from cluster.gateway.wire import PATHS
from tests import field_rows

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = (ROOT / "docs" / "contract.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
README = (ROOT / "README.md").read_text()


def first_lines() -> dict[str, str]:
    """Return the first line of each module's docstring, by path."""
    found = {}
    modules = [path for package in ("cluster", "deploy") for path in sorted((ROOT / package).rglob("*.py"))]
    for path in modules:
        text = ast.get_docstring(ast.parse(path.read_text()))
        assert text, f"{path} has no docstring"
        found[str(path.relative_to(ROOT))] = text.splitlines()[0]
    return found


def test_every_module_has_its_line() -> None:
    """The architecture lists every module with the first line of its docstring."""
    listed = dict(re.findall(r"^- `(\S+?)`: (.*)$", ARCHITECTURE, re.MULTILINE))
    assert listed == first_lines()


def test_the_settings_example_loads() -> None:
    """The contract's complete example is accepted by the real settings model."""
    block = re.search(r"```yaml\n(.*?)```", CONTRACT, re.DOTALL)
    assert block is not None
    settings.parse(yaml.safe_load(block[1]), origin="docs/contract.md")


def test_every_outcome_is_told_with_its_code() -> None:
    """The contract's table has each outcome once, with the error code that clients see."""
    section = CONTRACT.split("## Outcomes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*)\| ?([^|]*)\|$", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == [outcome.value for outcome in Outcome]
    for name, status, code in rows:
        form = FORMS.get(Outcome(name))
        if form is None or form.status == 499:
            continue
        assert str(form.status) in status, name
        assert (form.code or "") == code.strip("` "), name


def test_the_page_of_fields_is_the_tables() -> None:
    """``docs/fields.md`` is what the field tables say; ``python -m tests.field_rows`` writes it."""
    assert field_rows.PAGE.read_text() == field_rows.page()


def test_every_route_is_told() -> None:
    """The contract names the routes that the gateway serves."""
    for path in (*PATHS.values(), "/v1/models", "/metrics", "/livez", "/readyz"):
        assert f"`{path}`" in CONTRACT, path


def test_every_command_is_told() -> None:
    """The contract names every command of the command line."""
    group = get_command(app)
    context = typer.Context(group)
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        assert f"`{name}" in CONTRACT, name


def test_the_locks_are_what_the_readme_of_requirements_says() -> None:
    """Every lock file is described, and every described one is there."""
    text = (ROOT / "requirements" / "README.md").read_text()
    assert set(re.findall(r"`([\w-]+\.lock)`", text)) == {
        path.name for path in (ROOT / "requirements").glob("*.lock")
    }


@pytest.mark.parametrize(
    "document", [README, CONTRACT, ARCHITECTURE], ids=["readme", "contract", "architecture"]
)
def test_links_lead_somewhere(document: str) -> None:
    """Every relative link names a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document):
        if "://" not in target:
            base = ROOT if document is README else ROOT / "docs"
            assert (base / target).exists(), target
