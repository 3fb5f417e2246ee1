"""The commands ``bundle …``: what they print, and their exit statuses."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cluster import vocabulary
from cluster.cli import app
from cluster.serving.checkpoint import LOADING, MARKER
from deploy.bundle import signing
from tests.deploy.bundles import sealed, write_checkpoint
from tests.deploy.image_archives import write_oci

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


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a recipe of a chart, a vocabulary, a model and an image with its archive."""
    write_checkpoint(tmp_path / MODEL, shard_bytes=1000)
    for name in ("LICENSE", "USAGE_POLICY"):
        (tmp_path / MODEL / name).write_text(name)
    (tmp_path / "chart").mkdir()
    (tmp_path / "chart" / "Chart.yaml").write_text("name: chart\n")
    (tmp_path / vocabulary.FILE_NAME).write_text("words")
    monkeypatch.setattr(vocabulary, "SHA256", hashlib.sha256(b"words").hexdigest())
    digest = write_oci(tmp_path / "gateway.tar", [{"file": b"x"}])
    document = {
        "version": 1,
        "chart": "chart",
        "images": {
            "gateway": {"reference": f"hub.example.com/ai/gateway@{digest}", "archive": "gateway.tar"}
        },
        "models": {MODEL: {"source": MODEL}},
        "vocabulary": ".",
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(document))
    return tmp_path / "recipe.yaml"


def test_create_and_verify_tell_the_signer(recipe: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Both print the parts and the fingerprint, which a person compares; scripts get JSON."""
    made = run("create", recipe, tmp_path / "made", "--signing-key", keys[0])
    assert made.exit_code == 0, made.output
    verified = run("verify", tmp_path / "made", "--public-key", keys[1])
    assert verified.exit_code == 0, verified.output
    signer = signing.fingerprint(signing.read_public(keys[1]))
    for result in (made, verified):
        assert signer in result.output
        assert f"models/{MODEL}" in result.output
    told = json.loads(run("verify", tmp_path / "made", "--public-key", keys[1], "--json").stdout)
    assert (told["ok"], told["signed_by"], told["parts"]["chart"]["files"]) == (True, signer, 1)


def test_verify_fails_with_a_line_for_each_finding(
    bundle: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """A missing and an extra file: exit status 1, two lines; a wrong key: exit status 1 before any hash."""
    (bundle / "models" / MODEL / "config.json").unlink()
    (bundle / "extra").write_text("x")
    command = ("verify", bundle, "--public-key")
    result = run(*command, keys[1])
    assert result.exit_code == 1
    assert "2 finding(s)" in result.output
    told = json.loads(run(*command, keys[1], "--json").stdout)
    assert [one["path"] for one in told["findings"]] == ["extra", f"models/{MODEL}/config.json"]
    _, other = signing.make_keys(tmp_path / "other")
    refused = run(*command, other, "--json")
    assert refused.exit_code == 1
    assert "the signature is not that of the key" in json.loads(refused.stdout)["findings"][0]["problem"]


def test_a_mirror_that_is_away_is_exit_status_3(
    recipe: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence has the address; the waits between the attempts are not waited here."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("deploy.bundle.transfer.FAILURES", 1)
    document = json.loads(recipe.read_text())
    document["models"][MODEL]["source"] = "http://127.0.0.1:9/mirror"
    recipe.write_text(json.dumps(document))
    result = run("create", recipe, tmp_path / "made", "--signing-key", keys[0])
    assert result.exit_code == 3, result.output
    assert "http://127.0.0.1:9/mirror/" in result.output


def test_images_are_pushed_where_skopeo_is_there(
    recipe: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``--push`` the command is printed; with it, it runs, or a missing or failing tool is named."""
    run("create", recipe, tmp_path / "made", "--signing-key", keys[0])
    command = ("load", tmp_path / "made", "--public-key", keys[1], "--registry", "harbor.example.com/x")
    printed = run(*command).stdout.split()
    assert printed[:4] == ["skopeo", "copy", "--all", "--preserve-digests"]
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    missing = run(*command, "--push")
    assert missing.exit_code == 1
    assert "skopeo is not installed" in missing.output
    skopeo = tools / "skopeo"
    skopeo.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/ran\n')
    skopeo.chmod(0o755)
    assert run(*command, "--push").exit_code == 0
    assert (tmp_path / "ran").read_text().split() == printed[1:]
    skopeo.write_text("#!/bin/sh\nexit 1\n")
    failed = run(*command, "--push")
    assert failed.exit_code == 1
    assert "log in to the registry" in failed.output


def test_load_without_a_target_is_wrong_usage(bundle: Path, keys: tuple[Path, Path]) -> None:
    """Exit status 2 names both options."""
    result = run("load", bundle, "--public-key", keys[1])
    assert result.exit_code == 2
    assert "--registry" in result.output
