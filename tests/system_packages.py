"""Install the Debian packages that tests start, where this user may; say how where not.

Standard library only: it runs before the environment exists. A test whose program is missing is skipped, with
the same command as the reason.
"""

import os
import shutil
import subprocess
import sys

PROGRAMS = {"redis-server": "redis-server"}
"""Program that a test starts, and the Debian package that holds it."""


def missing() -> list[str]:
    """Return the packages whose program is not on the path."""
    return sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})


def install_command(packages: list[str]) -> str:
    """Return the command that a person would run."""
    return f"sudo apt-get install --yes --no-install-recommends {' '.join(packages)}"


def main() -> int:
    """Install what is missing as root; otherwise say what will be skipped."""
    packages = missing()
    if not packages:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"Some tests will be skipped; to run them: {install_command(packages)}", file=sys.stderr)
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
    sys.exit(main())
