"""promtool: fetched without installing a server, or its tests are skipped with the reason."""

import subprocess
from pathlib import Path

import pytest

from tests import promtool


def test_it_runs() -> None:
    """What was found is promtool."""
    path = promtool.program()
    if path is None:
        pytest.skip(promtool.HINT)
    assert (
        "promtool, version"
        in subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    )


def test_where_it_cannot_be_had_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Set-up goes on on a machine without apt-get."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(promtool, "CACHE", tmp_path)
    assert promtool.program() is None
    assert promtool.main() == 0
    assert "skipped: there is no apt-get" in capsys.readouterr().err


def test_a_package_is_unpacked_and_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the program is kept."""

    def run(folder: Path, *command: str) -> None:
        if command[0] == "apt-get":
            assert command[1:] == ("download", "prometheus")
            (folder / "prometheus_1_amd64.deb").touch()
        else:
            place = folder / "unpacked" / "usr" / "bin" / "promtool"
            place.parent.mkdir(parents=True)
            place.write_text("#!/bin/sh\n")
            place.chmod(0o755)

    def which(name: str | Path) -> str | None:
        return str(name) if name == "apt-get" or Path(name).exists() else None

    monkeypatch.setattr(promtool, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(promtool, "_run", run)
    monkeypatch.setattr(
        "shutil.which", lambda name: str(name) if Path(name).exists() or name == "apt-get" else None
    )
    promtool.fetch()
    assert promtool.program() == tmp_path / "cache" / "promtool"
