"""The processes of a run: each pinned to a core, with a log, in a session of its own, ended by its id."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import processes
from loadtest.bench import procfs

_GRACE_S = 10.0


class BenchError(Exception):
    """The benchmark cannot run, or a contender cannot; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core does what: the contender has one of its own, whatever else there is shares the others."""

    contender: int
    engine: int
    load: int
    redis: int


def cores(available: Sequence[int]) -> Cores:
    """Give each part a core. Raises `BenchError` for fewer than two."""
    if len(available) < 2:
        raise BenchError("two cores are needed: one for the contender, one for its clients and the engine")
    first, *others = sorted(available)
    engine, load, redis = (others[index % len(others)] for index in range(3))
    return Cores(first, engine, load, redis)


@dataclass(frozen=True, slots=True)
class Server:
    """One process that was started, with all that it starts."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def usage(self) -> procfs.Usage:
        """Return what it and its children have used."""
        return procfs.usage(self.process.pid)

    def check(self) -> None:
        """Raise `BenchError` with the end of its log when it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"it ended with status {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """Ask it to end; kill its process group when it does not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Servers:
    """Starts processes, and ends all of them when the context ends, even after ``kill -9`` of this one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._mark = folder, f"bench-{secrets.token_hex(8)}"
        self._started: list[Server] = []

    def __enter__(self) -> "Servers":
        self._guard = processes.guard(self._mark, os.environ)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._started:
            server.process.terminate()
        for server in self._started:
            server.stop()
        processes.end(self._mark)
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()

    def start(
        self, name: str, command: Sequence[str], *, core: int, environment: Mapping[str, str] | None = None
    ) -> Server:
        """Start ``command`` on one core."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, processes.MARK: self._mark, **(environment or {})},
                start_new_session=True,
            )
        server = Server(process, log)
        self._started.append(server)
        return server


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str, package: str) -> str:
    """Return the path of a system program. Raises `BenchError` that names the Debian package."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise BenchError(f"{name} is not installed: apt-get install {package}")
    return path
