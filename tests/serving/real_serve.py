"""One pool of simulated replicas on a real Ray Serve, for tests of what only the whole of it shows."""

import http.client
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import processes
from cluster.core.effort import Effort
from cluster.core.engine import REPLICA_HEADER
from cluster.demo.machine import free_ports

POOL = "small"
KEY = "engine-key"


@dataclass(frozen=True, slots=True)
class Serve:
    """A pool behind HAProxy."""

    port: int
    mark: str

    def ask(self, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request on a connection of its own and return the answer, read to its end."""
        with closing(self.connect(30)) as connection:
            answer = send(connection, path, body, **headers)
            answer.read()
            return answer

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return a connection to HAProxy."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def chat(self, told: str = "", tokens: int = 5, effort: Effort = "medium") -> str:
        """Ask for a short answer with a route hint and return the name of the replica that gave it."""
        headers = {"x_route_hint": told} if told else {}
        answer = self.ask(f"/{POOL}/v1/chat/completions", question(effort, max_tokens=tokens), **headers)
        assert answer.status == 200
        return str(answer.headers[REPLICA_HEADER])

    def command_lines(self) -> list[str]:
        """Return the titles of the run's processes."""
        lines = []
        for process in processes.found(self.mark):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                lines.append(Path(f"/proc/{process.id}/cmdline").read_bytes())
        return [line.replace(b"\0", b" ").decode() for line in lines]

    def replicas(self) -> int:
        """Return how many processes of replicas there are."""
        return sum("SimServer:small" in line and "LLMRouter" not in line for line in self.command_lines())


def question(effort: Effort, **more: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    messages = [{"role": "user", "content": "Hello"}]
    return {"model": "gpt-oss-20b", "messages": messages, "reasoning_effort": effort, **more}


def send(
    connection: http.client.HTTPConnection, path: str, body: object = None, **headers: str
) -> http.client.HTTPResponse:
    """Send a request with the engine key and return the head of its answer."""
    given = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, given)
    return connection.getresponse()


@contextmanager
def started(folder: Path, **pool: Any) -> Iterator[Serve]:
    """Start Ray Serve with one pool of simulated replicas; end all that it started."""
    ports, mark = free_ports(), uuid.uuid4().hex
    (folder / "key").write_text(KEY)
    document = {
        "version": 1,
        "serving": {
            "url": f"http://127.0.0.1:{ports.serve}",
            "engine_key_file": str(folder / "key"),
            "pools": {POOL: {"model": "gpt-oss-20b", "profile": "cpu", "engine": "sim", **pool}},
        },
        "models": {"gpt-oss-20b": {"pools": [POOL], "source": "unused"}},
        "auth": {"keys": {"path": str(folder)}, "pepper_file": str(folder / "key")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    guard = processes.guard(mark, os.environ)
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "cluster.demo.serve", str(folder / "config.yaml")],
            env={**os.environ, **ports.environment(), processes.MARK: mark},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert child.stdout is not None
        if not any("ready" in json.loads(line) for line in child.stdout):
            pytest.fail((folder / "log").read_text())
        yield Serve(ports.serve, mark)
    finally:
        processes.end(mark)
        child.communicate()
        guard.communicate()
