"""Real Ray Serve with two simulated replicas: what becomes of a request on its way."""

import http.client
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster import processes
from cluster.core import hint
from cluster.core.effort import Effort
from cluster.core.engine import LOAD_HEADER, REPLICA_HEADER, parse_load
from cluster.demo.machine import free_ports

pytestmark = pytest.mark.e2e

POOL = "small"
KEY = "engine-key"


@dataclass(frozen=True, slots=True)
class Serve:
    """A pool behind HAProxy."""

    port: int
    mark: str

    def ask(self, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request on a connection of its own and return the answer, read to its end."""
        given = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET" if body is None else "POST", path, content, given)
            answer = connection.getresponse()
            answer.read()
            return answer

    def chat(self, told: str = "", tokens: int = 5, effort: Effort = "medium") -> str:
        """Ask for a short answer with a route hint and return the name of the replica that gave it."""
        body = {
            "model": "gpt-oss-20b",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": tokens,
            "reasoning_effort": effort,
        }
        headers = {"x_route_hint": told} if told else {}
        answer = self.ask(f"/{POOL}/v1/chat/completions", body, **headers)
        assert answer.status == 200
        return str(answer.headers[REPLICA_HEADER])


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start Ray Serve with one pool of two simulated replicas; end all that it started."""
    folder, ports, mark = tmp_path_factory.mktemp("serve"), free_ports(), uuid.uuid4().hex
    (folder / "key").write_text(KEY)
    pool = {"model": "gpt-oss-20b", "profile": "cpu", "engine": "sim", "replicas": {"min": 2, "max": 2}}
    document = {
        "version": 1,
        "serving": {
            "url": f"http://127.0.0.1:{ports.serve}",
            "engine_key_file": str(folder / "key"),
            "pools": {POOL: pool},
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
        started = Serve(ports.serve, mark)
        until_routed(started)
        yield started
    finally:
        processes.end(mark)
        child.communicate()
        guard.communicate()


def until_routed(serve: Serve) -> None:
    """Wait until HAProxy asks the routers: for two seconds after a start it does without them."""
    name = serve.chat()
    told = hint.render(hint.RouteHint("low", 50, 20, attempt=2, avoid=name))
    deadline = time.monotonic() + 30
    while any(serve.chat(told) == name for _ in range(8)):
        assert time.monotonic() < deadline, "HAProxy does not ask the routers"


def command_lines(mark: str) -> list[str]:
    """Return the titles of the run's processes."""
    lines = [Path(f"/proc/{process.id}/cmdline").read_bytes() for process in processes.found(mark)]
    return [line.replace(b"\0", b" ").decode() for line in lines]


def test_two_request_routers_stand_beside_haproxy(serve: Serve) -> None:
    """One takes over while the other is replaced; Ray ignores ``num_replicas`` for them."""
    assert sum("LLMRouter" in line for line in command_lines(serve.mark)) == 2


def test_the_declared_number_of_replicas_runs(serve: Serve) -> None:
    """The override in the declarative config wins over the one replica in the code."""
    assert (
        sum("SimServer:small" in line and "LLMRouter" not in line for line in command_lines(serve.mark)) == 2
    )


def test_the_hint_reaches_the_router(serve: Serve) -> None:
    """Every request that avoids a replica goes to the other one, whichever router decides."""
    names = {serve.chat() for _ in range(12)}
    assert len(names) == 2
    for avoided in names:
        told = hint.render(hint.RouteHint("low", 50, 20, attempt=2, avoid=avoided))
        assert {serve.chat(told) for _ in range(8)} == names - {avoided}


def test_requests_spread_over_idle_replicas(serve: Serve) -> None:
    """Neither replica takes all of a series without hints."""
    counts = Counter(serve.chat() for _ in range(20))
    assert min(counts.values()) >= 5


def test_reports_draw_the_lanes(serve: Serve) -> None:
    """Low and high effort part, whichever of the two routers decides: both read the same reports."""

    def ask(effort: Effort, tokens: int) -> str:
        return serve.chat(hint.render(hint.RouteHint(effort, tokens, 20)), effort=effort)

    for _ in range(6):
        ask("low", 400)
        ask("high", 4000)  # outweighs what other tests have sent
    time.sleep(2)  # until the replicas have reported what came
    low = {ask("low", 400) for _ in range(5)}
    high = {ask("high", 4000) for _ in range(5)}
    assert (len(low), len(high)) == (1, 1)
    assert low != high


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/responses", "/metrics", "/"])
def test_nothing_answers_without_the_key(serve: Serve, path: str) -> None:
    """Through HAProxy as on the replica's own port."""
    body: dict[str, str] | None = None if path in ("/v1/models", "/metrics", "/") else {}
    assert serve.ask(f"/{POOL}{path}", body, authorization="Bearer wrong").status == 401


def test_answers_name_replica_and_load(serve: Serve) -> None:
    """The gateway reads both."""
    answer = serve.ask(f"/{POOL}/v1/models")
    load = parse_load(answer.headers[LOAD_HEADER])
    assert answer.status == 200
    assert load is not None
    assert load.slots == 16
