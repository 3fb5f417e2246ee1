"""Fixtures that several packages of tests share: a demo, a replica to speak to directly, helm and kubectl."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from tests import helm_tools
from tests.helm_tools import Tool
from tests.kube.cluster import Cluster, running
from tests.redis_servers import redis_server, start_redis  # noqa: F401  fixtures

REUSE = "GPT_OSS_CLUSTER_DEMO_STATE"
"""Environment variable that names the state folder of a demo that is up already, to test against it."""

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT_S = 600


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that is up."""

    base_url: str
    admin_url: str
    serve_url: str
    engine_key: str
    key: str
    """Key of a tenant that may not see the chain of thought."""
    research_key: str
    """Key of one that may."""
    logs: Path
    clients: dict[str, openai.OpenAI] = field(default_factory=dict)

    def client(self, key: str | None = None) -> openai.OpenAI:
        """Return the official client, unmodified, for the demo tenant or for another ``key``."""
        key = key or self.key
        if key not in self.clients:
            self.clients[key] = openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=0, timeout=120)
        return self.clients[key]

    def close(self) -> None:
        """Close every client."""
        for client in self.clients.values():
            client.close()


@dataclass(frozen=True, slots=True)
class Engine:
    """One replica behind Serve's HAProxy, reached without the gateway."""

    base_url: str
    api_key: str
    model: str


def read_demo(state: Path) -> Demo:
    """Read the facts that a demo writes when it is up."""
    facts = json.loads((state / "ready.json").read_text())
    return Demo(
        base_url=facts["base_url"],
        admin_url=facts["admin_url"],
        serve_url=facts["serve_url"],
        engine_key=Path(facts["engine_key_file"]).read_text(),
        key=facts["api_key_demo"],
        research_key=facts["api_key_research"],
        logs=Path(facts["log_folder"]),
    )


def start_demo(state: Path, engine: str, output: Path) -> "subprocess.Popen[bytes]":
    """Start ``gpt-oss-cluster demo`` on free ports, as a user would."""
    command = [str(Path(sys.executable).parent / "gpt-oss-cluster"), "demo"]
    options = ["--engine", engine, "--state-dir", str(state), "--free-ports"]
    with output.open("wb") as log:
        return subprocess.Popen([*command, *options], cwd=ROOT, stderr=log, start_new_session=True)


def wait_for_demo(process: "subprocess.Popen[bytes]", state: Path, output: Path) -> Demo:
    """Wait until the demo says that it is up; fail with what it printed."""
    deadline = time.monotonic() + START_LIMIT_S
    while not (state / "ready.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            pytest.fail(f"the demo did not start:\n{output.read_text()}")
        time.sleep(0.5)
    return read_demo(state)


def stop_demo(process: "subprocess.Popen[bytes]") -> None:
    """Stop the demo as Ctrl-C does."""
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Real Ray Serve, two pools of real vLLM, and the gateway: started once for all end-to-end tests."""
    if running := os.environ.get(REUSE):
        found = read_demo(Path(running))
        yield found
        found.close()
        return
    state = tmp_path_factory.mktemp("demo")
    output = state / "output.log"
    process = start_demo(state, "vllm", output)
    started = wait_for_demo(process, state, output)
    yield started
    started.close()
    stop_demo(process)


@pytest.fixture(scope="session")
def real_engine(demo: Demo) -> Engine:
    """Return a replica of real vLLM behind the engine key, reached without the gateway."""
    return Engine(f"{demo.serve_url}/gpt-oss-120b/v1", demo.engine_key, "gpt-oss-120b")


@pytest.fixture(params=["helm-3", "helm-4"])
def helm(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    """Real helm, once in each major, without a cluster; skip where it was not fetched."""
    return fetched(request.param, tmp_path)


@pytest.fixture
def kubectl(tmp_path: Path) -> Tool:
    """Real kubectl, without a cluster; skip where it was not fetched."""
    return fetched("kubectl", tmp_path)


def fetched(name: str, folder: Path) -> Tool:
    """Return a program that knows only a folder of its own; skip where it was not fetched."""
    path = helm_tools.program(name)
    if path is None:
        pytest.skip(f"{name} is missing: {helm_tools.FETCH}")
    home = folder / name
    home.mkdir(exist_ok=True)
    return Tool(path, home, name=name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster with the namespace ``serving``."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with running(folder) as made:
        yield made
