"""Starts Locust with a plan, in a process of its own: gevent patches whatever process loads it."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest import machine
from loadtest.bench.servers import free_port

LOCUSTFILE = machine.ROOT / "loadtest" / "locustfile.py"


class UnreachableError(Exception):
    """The target does not answer, or not this key; the message says which."""


@dataclass(frozen=True, slots=True)
class Command:
    """One start of Locust."""

    base_url: str
    key: str = field(repr=False)
    out: Path
    plan: Path | None = None
    slo: Path | None = None
    changes: tuple[str, ...] = ()
    settings: Path | None = None
    watch: tuple[str, ...] = ()
    """Addresses of the target's own metrics."""
    metrics_listen: str | None = None
    processes: int = 1
    """Worker processes on this machine; 1: Locust has only one process."""
    web: str | None = None
    """``host:port`` of Locust's web UI; None: headless."""

    def arguments(self) -> list[str]:
        """Return the command line; the key is not on it, for anybody can read that."""
        given = {
            "--plan": self.plan,
            "--slo": self.slo,
            "--settings": self.settings,
            "--metrics-listen": self.metrics_listen,
        }
        return [
            *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", self.base_url),
            *("--out", str(self.out)),
            *(part for name, value in given.items() if value is not None for part in (name, str(value))),
            *(part for change in self.changes for part in ("--set", change)),
            *(part for address in self.watch for part in ("--watch", address)),
            *self._workers(),
            *self._face(),
        ]

    def _workers(self) -> Sequence[str]:
        if self.processes == 1:
            return ()
        port = str(free_port())  # Locust's own port may be another test's, whose workers would join this one
        bound = ("--master-bind-host", "127.0.0.1", "--master-bind-port", port)
        return "--processes", str(self.processes), *bound, "--master-port", port

    def _face(self) -> Sequence[str]:
        if self.web is None:
            return "--headless", "--only-summary"
        host, _, port = self.web.rpartition(":")
        return "--web-host", host, "--web-port", port

    def environment(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the process's environment."""
        paths = [str(machine.ROOT), *filter(None, [environ.get("PYTHONPATH")])]
        return {**environ, "OPENAI_API_KEY": self.key, "PYTHONPATH": os.pathsep.join(paths)}


def run(command: Command) -> int:
    """Run Locust to its end and return its status. Raises `UnreachableError`."""
    check(command.base_url, command.key)
    with subprocess.Popen(
        command.arguments(), env=command.environment(), stdin=subprocess.DEVNULL
    ) as process:
        # Kubernetes sends it to this process alone; Locust then ends the test with its report
        signal.signal(signal.SIGTERM, lambda _number, _frame: process.terminate())
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # Locust has it too, and ends the test with its report


def check(base_url: str, key: str) -> None:
    """Ask the target for its models: better now than after a thousand errors. Raises `UnreachableError`."""
    request = urllib.request.Request(f"{base_url}/models", headers={"authorization": f"Bearer {key}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - the scheme was checked
            response.read()
    except urllib.error.HTTPError as error:
        told = "the key is not valid there" if error.code == 401 else "is the address complete, with /v1?"
        raise UnreachableError(f"{base_url}/models answers {error.code}: {told}") from error
    except OSError as error:
        raise UnreachableError(f"{base_url} does not answer: {error}") from error
