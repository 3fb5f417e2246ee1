"""checkov, a linter of Kubernetes policies, in an environment of its own.

``python tests/helm/checkov.py`` installs what ``requirements/checkov.lock`` names into ``.cache``; its many
dependencies would not go together with the project's. Where it is missing its test is skipped, with the same
command as the reason. It runs offline, on files.
"""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "checkov.lock"
FETCH = "make packages"


@dataclass(frozen=True, order=True)
class Finding:
    """One check that an object fails."""

    check: str
    resource: str
    """Such as ``Pod.ai.head``."""
    name: str
    """What the check asks for."""


def program() -> Path | None:
    """Return where it is, None where it was not installed."""
    path = _home() / "bin" / "checkov"
    return path if (_home() / "complete").exists() else None


def _home() -> Path:
    return ROOT / ".cache" / f"checkov-{sha256(LOCK.read_bytes()).hexdigest()[:12]}"


def fetch() -> str:
    """Install it where it is missing; return why that failed, or nothing."""
    if program() is not None:
        return ""
    venv.create(_home(), with_pip=True, clear=True)
    install = ["-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "--requirement"]
    command = [str(_home() / "bin" / "python"), *install, str(LOCK)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        return done.stderr.strip() or f"pip install ended with {done.returncode}"
    (_home() / "complete").touch()
    return ""


def findings(checkov: Path, folder: Path) -> Iterator[Finding]:
    """Yield what fails of the manifests in a folder."""
    options = ["--framework", "kubernetes", "--skip-download", "--quiet", "--compact", "--output", "json"]
    environ = {"PATH": os.defpath, "HOME": str(folder), "CHECKOV_RUN_SCA_PACKAGE_SCAN": "false"}
    done = subprocess.run(
        [str(checkov.parent / "python"), str(checkov), "--directory", str(folder), *options],
        check=False,
        capture_output=True,
        text=True,
        env=environ,
        timeout=120,
    )
    report = json.loads(done.stdout)
    for failed in report["results"]["failed_checks"]:
        yield Finding(failed["check_id"], failed["resource"], failed["check_name"])


def main() -> int:
    """Install it; where that fails, say what will be skipped."""
    if told := fetch():
        print(f"What needs checkov is skipped; {FETCH} tries again. {told}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
