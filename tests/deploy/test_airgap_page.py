"""``docs/airgap.md`` is what the commands do: its recipe, its options, and its steps in their order."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from cluster import vocabulary
from cluster.cli import app
from deploy.bundle.recipe import Recipe
from tests.conftest import ROOT
from tests.deploy.bundles import write_checkpoint

PAGE = (ROOT / "docs" / "airgap.md").read_text()
COMMANDS = re.findall(r"^gpt-oss-cluster bundle (.+)$", PAGE, re.MULTILINE)
VOCABULARY = ROOT / ".cache" / "vocabulary"


def recipe() -> str:
    """Return the page's recipe."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def test_the_recipe_is_one() -> None:
    """It has every part, and the files of this repository that it names are there."""
    document = Recipe.model_validate(yaml.safe_load(recipe()))
    assert document.model_fields_set == set(Recipe.model_fields)
    named = [document.chart, *document.licences]
    named += [path for build in document.builds.values() for path in (build.dockerfile, build.lock)]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_page_is_understood(line: str) -> None:
    """Verb, arguments and options are those of the command line."""
    group = get_command(app).commands["bundle"]  # type: ignore[attr-defined]
    verb, *arguments = shlex.split(line)
    command = group.commands[verb]
    context = typer.Context(command)
    command.parse_args(context, arguments)


def test_the_steps_lead_from_a_repository_to_a_served_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, bundle, verification, images and models: the page's commands one after the other."""
    if not (VOCABULARY / vocabulary.FILE_NAME).is_file():
        pytest.skip("needs the vocabulary: make setup")
    for name in ("gpt-oss-120b", "gpt-oss-20b"):
        write_checkpoint(tmp_path / name, shard_bytes=1000)
        for text in ("LICENSE", "USAGE_POLICY"):
            (tmp_path / name / text).write_text(text)
    document = yaml.safe_load(recipe())
    document["models"] = {name: {"source": name} for name in document["models"]}
    document["vocabulary"] = str(VOCABULARY)
    document["chart"] = str(ROOT / document["chart"])
    document["licences"] = [str(ROOT / "LICENSE")]
    del document["builds"], document["images"]["gateway"]
    document["images"]["engine"]["lock"] = str(ROOT / "requirements" / "serving-gpu.lock")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        here = line.replace("/media/bundle", "bundle").replace("/models", "models").replace("3600", "0")
        if here.startswith("load") and "--model gpt-oss-120b" in here:
            here = here.replace(" --model gpt-oss-120b", "")
        done = CliRunner().invoke(app, ["bundle", *shlex.split(here)])
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert (tmp_path / "models" / "gpt-oss-120b" / ".complete.json").is_file()
