"""A Debian with Python in a folder, in which a Dockerfile's lines are executed without a network.

Not a container engine: it knows the instructions that the project's Dockerfiles use, and refuses all others.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import ROOT

CACHE = ROOT / ".cache" / "chroot"
SUITE = "bookworm"
DEBS = ("wget", "gcc", "libc6-dev")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class CannotError(Exception):
    """This machine cannot make a chroot; the message says why."""


def base() -> Path:
    """Return a fresh Debian with Python and venv as a folder that is kept. Raises `CannotError`."""
    missing = [program for program in ("debootstrap", "unshare", "ip") if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        raise CannotError(
            f"needs root, and {', '.join(missing) or 'debootstrap'}: apt-get install debootstrap"
        )
    target = CACHE / SUITE
    if not target.exists():
        making = CACHE / f"{SUITE}.new"
        shutil.rmtree(making, ignore_errors=True)
        making.parent.mkdir(parents=True, exist_ok=True)
        options = ("--variant=minbase", "--include=python3,python3-venv,ca-certificates")
        made = subprocess.run(
            ["debootstrap", *options, SUITE, str(making)],
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        if made.returncode != 0:
            raise CannotError(f"debootstrap failed: {(made.stdout + made.stderr)[-300:]}")
        making.rename(target)
    return target


def debs() -> Path:
    """Return a folder with the Debian packages of the engine image and what they depend on."""
    target = CACHE / "debs"
    if not target.exists():
        root = base()
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        get = "apt-get update -qq && apt-get install --yes -qq --no-install-recommends --download-only"
        command = ["chroot", str(root), "sh", "-c", f"{get} {' '.join(DEBS)}"]
        subprocess.run(command, check=True, capture_output=True, timeout=300, env=ENVIRONMENT)
        making = CACHE / "debs.new"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        for path in (root / "var" / "cache" / "apt" / "archives").glob("*.deb"):
            shutil.move(path, making)
        making.rename(target)
    return target


@dataclass
class Built:
    """What executing a Dockerfile left."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))
    labels: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    entrypoint: str = ""
    executed: list[str] = field(default_factory=list)
    """The RUN lines that ended well."""

    def command(self, *command: str) -> list[str]:
        """Return a command as one of the image's user, inside it."""
        assigned = [f"{name}={value}" for name, value in self.environment.items()]
        inside = ["chroot", f"--userspec={self.user}", str(self.root), "env", "-i", *assigned]
        return [*inside, *command]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as the image's user."""
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=120, check=False
        )


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions: each word and its rest, comments left out, lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def build(context: Path, root: Path) -> Built:
    """Execute the Dockerfile of ``context`` over a copy of the base at ``root``, cut off from any network."""
    subprocess.run(["cp", "--archive", str(base()), str(root)], check=True)
    built = Built(root)
    for word, rest in instructions((context / "Dockerfile").read_text()):
        if word == "RUN":
            _execute(built, context, rest)
        elif word == "COPY":
            source, target = rest.split()
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(context / source, place)
        elif word in ("ENV", "LABEL"):
            pairs = re.findall(r'([\w.]+)=("[^"]*"|\S+)', rest)
            found = {name: value.strip('"') for name, value in pairs}
            (built.environment if word == "ENV" else built.labels).update(found)
        elif word == "USER":
            built.user = rest
        elif word in ("ENTRYPOINT", "CMD"):
            built.entrypoint += rest
        elif word not in ("ARG", "FROM"):
            raise AssertionError(f"{word} is not known here")
    return built


def _execute(built: Built, context: Path, rest: str) -> None:
    bound = re.match(r"--mount=type=bind,target=(\S+)\s+", rest)
    shell = rest[bound.end() :] if bound else rest
    place = built.root / (bound[1].lstrip("/") if bound else "tmp")
    place.mkdir(exist_ok=True)
    mount = f"mount --bind --options ro {context} {place} && " if bound else ""
    assigned = [f"{name}={value}" for name, value in built.environment.items()]
    command = ["chroot", str(built.root), "env", "-i", *assigned, "sh", "-c", shell]
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", f'{mount}ip link set lo up && exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"RUN {shell}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    built.executed.append(shell)
