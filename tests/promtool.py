"""Prometheus' ``promtool``: one program out of a Debian package, which is unpacked and not installed.

``python tests/promtool.py`` fetches it into ``.cache/promtool``: an installed package would start a server on
this machine, and need root. Standard library only, for it may run before the environment exists. A test is
skipped where it is missing, with how to get it as the reason.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "promtool"
PACKAGE = "prometheus"
HINT = "promtool is missing: `make packages` fetches it where apt-get is, or put it on the path"


class FetchError(Exception):
    """It cannot be had here; the message says why."""


def program() -> Path | None:
    """Return where it is: on the path, or where it was fetched to; None: nowhere."""
    found = shutil.which("promtool") or shutil.which(CACHE / "promtool")
    return None if found is None else Path(found)


def fetch() -> None:
    """Download and unpack it, if it is missing. Raises `FetchError`."""
    if program() is not None:
        return
    if shutil.which("apt-get") is None:
        raise FetchError("there is no apt-get")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run(folder, "apt-get", "download", PACKAGE)
        (package,) = folder.glob("*.deb")
        _run(folder, "dpkg-deb", "--extract", package.name, "unpacked")
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "unpacked" / "usr" / "bin" / "promtool", CACHE / "promtool")


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise FetchError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}")


def main() -> int:
    """Fetch it; where that fails, say what will be skipped."""
    try:
        fetch()
    except FetchError as error:
        print(f"Tests of alerts are skipped: {error}. {HINT}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
