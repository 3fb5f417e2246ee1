"""Environments of the peers that pip installs: one each, made once from a lock file and kept."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from loadtest.bench.servers import BenchError

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
_STAMP = "installed"


def lock(peer: str) -> Path:
    """Return the lock file that pins ``peer`` and all that it needs."""
    return ROOT / "requirements" / f"bench-{peer}.lock"


def title(peer: str) -> str:
    """Return the peer's name and version."""
    found = re.search(rf"^{peer}(?:\[\w+\])?==(\S+)", lock(peer).read_text(), re.MULTILINE)
    assert found is not None
    return f"{peer} {found[1]}"


def program(peer: str, name: str) -> str:
    """Return the path of one of a peer's programs."""
    return str(CACHE / peer / "bin" / name)


def installed(peer: str) -> bool:
    """Return whether the environment is there, made from the lock file as it is now."""
    stamp = CACHE / peer / _STAMP
    return stamp.exists() and stamp.read_text() == _digest(peer)


def install(peer: str) -> None:
    """Make the environment anew. Raises `BenchError` with the end of pip's output."""
    folder = CACHE / peer
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    _run(*pip, "-r", str(lock(peer)))
    (folder / _STAMP).write_text(_digest(peer))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError("cannot be installed: " + "\n".join(done.stderr.splitlines()[-5:]))


def _digest(peer: str) -> str:
    return hashlib.sha256(lock(peer).read_bytes()).hexdigest()
