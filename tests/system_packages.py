"""Install the Debian packages that tests and benchmarks start, where this user may; say how where not.

``python tests/system_packages.py [PROGRAM…]``: those named, else what tests need. Standard library only: it
runs before the environment exists. A test whose program is missing is skipped, with the same command as the
reason.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

PROGRAMS = {
    "redis-server": "redis-server",
    "nginx": "nginx",
    "strace": "strace",
    "debootstrap": "debootstrap",
}
"""Program that is started, and the Debian package that holds it."""
TESTED = ("redis-server", "strace", "debootstrap")
"""Programs that tests start; benchmarks start the others too."""


def missing(programs: Sequence[str] = TESTED) -> list[str]:
    """Return the packages whose program is not on the path."""
    return sorted({PROGRAMS[program] for program in programs if shutil.which(program) is None})


def install_command(packages: list[str]) -> str:
    """Return the command that a person would run."""
    return f"sudo apt-get install --yes --no-install-recommends {' '.join(packages)}"


def main(programs: Sequence[str] = TESTED) -> int:
    """Install what is missing as root; otherwise say what will be skipped."""
    packages = missing(programs)
    if not packages:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(
            f"What needs {', '.join(packages)} is skipped; to have it: {install_command(packages)}",
            file=sys.stderr,
        )
        return 0
    print(f"Installing {', '.join(packages)}", file=sys.stderr)
    apt_get("update", "-qq")
    apt_get("install", "--yes", "-qq", "--no-install-recommends", *packages)
    return 0


def apt_get(*arguments: str) -> None:
    """Run apt-get without questions; it says itself what went wrong."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or TESTED))
