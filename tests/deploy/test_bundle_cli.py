"""The commands ``bundle …``: what they print, and their exit statuses."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cluster.cli import app
from cluster.serving.checkpoint import LOADING, MARKER
from deploy.bundle import signing
from tests.deploy.bundles import sealed

MODEL = "gpt-oss-20b"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Return a private and a public key's files."""
    return signing.make_keys(tmp_path / "keys")


@pytest.fixture
def bundle(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """Return a bundle of one model, signed with ``keys``."""
    return sealed(tmp_path / "bundle", MODEL, key=signing.read_private(keys[0]))


def run(*arguments: str | Path) -> Result:
    """Run a command of the group."""
    return CliRunner().invoke(app, ["bundle", *map(str, arguments)])


def test_keygen_tells_the_fingerprint(tmp_path: Path) -> None:
    """What is printed is what `fingerprint` says of the public file."""
    result = run("keygen", tmp_path / "new")
    assert result.exit_code == 0
    assert signing.fingerprint(signing.read_public(tmp_path / "new" / signing.PUBLIC)) in result.output
    assert run("keygen", tmp_path / "new").exit_code == 1


def test_load_tells_what_it_did(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """First it loads, then everything is there already; scripts get JSON."""
    command = ("load", bundle, "--models", tmp_path / "models", "--public-key", keys[1])
    first = run(*command)
    assert first.exit_code == 0, first.output
    assert f"{MODEL}: loaded" in first.stdout
    (again,) = json.loads(run(*command, "--json").stdout)["models"]
    assert (again["model"], again["what"]) == (MODEL, "already there")


def test_load_without_its_source_is_out_of_reach(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """No such directory is a finding that names it."""
    result = run("load", tmp_path / "none", "--models", tmp_path, "--public-key", keys[1])
    assert result.exit_code == 1
    assert "none: no such directory" in result.output


def test_load_refuses_the_wrong_key(bundle: Path, tmp_path: Path) -> None:
    """Exit status 1, and the sentence says whom to ask."""
    _, other = signing.make_keys(tmp_path / "other")
    result = run("load", bundle, "--models", tmp_path / "models", "--public-key", other)
    assert result.exit_code == 1
    assert "ask its maker" in " ".join(result.output.split())


def test_ready_follows_a_load(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing there, being loaded, there, and damaged: each has its sentence and its status."""
    models = tmp_path / "models"
    folder = models / MODEL
    assert "no such directory" in run("ready", folder).output
    (models / f"{LOADING}{MODEL}").mkdir(parents=True)
    loading = run("ready", folder)
    assert loading.exit_code == 1
    assert "still being loaded" in loading.output
    run("load", bundle, "--models", models, "--public-key", keys[1])
    assert run("ready", folder).exit_code == 0
    assert json.loads(run("ready", folder, "--json").stdout) == {"ready": True, "problem": ""}
    (folder / MARKER).unlink()
    damaged = run("ready", folder, "--json")
    assert damaged.exit_code == 1
    assert "nobody has checked these files" in json.loads(damaged.stdout)["problem"]


def test_ready_waits_no_longer_than_told(tmp_path: Path) -> None:
    """With a wait that ends, the answer is the same as without."""
    result = run("ready", tmp_path / "none", "--wait-s", "0.05")
    assert result.exit_code == 1
    assert "no such directory" in result.output


def test_ready_sees_the_end_of_a_load(bundle: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """A model that has the marker and not its files is not ready."""
    models = tmp_path / "models"
    run("load", bundle, "--models", models, "--public-key", keys[1])
    shutil.move(models / MODEL / "config.json", tmp_path)
    assert "config.json: missing" in run("ready", models / MODEL).output
