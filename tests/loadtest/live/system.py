"""A system to load: the gateway's own process in front of the simulated engine, on loopback."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.gateway.test_server import document, write_key
from tests.redis_servers import free_port

ROOT = Path(__file__).resolve().parents[3]
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class System:
    """A system that answers."""

    base_url: str
    admin: str
    key: str
    engine_log: Path

    def environment(self) -> dict[str, str]:
        """Return what the demo tells a user to export."""
        paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        return {
            **os.environ,
            "PATH": paths,
            "PYTHONPATH": str(ROOT),
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": self.key,
        }

    def metric(self, beginning: str, part: str = "") -> float:
        """Return the sum of the gateway's metrics whose lines begin so and hold ``part``."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith(beginning) and part in line
        )

    def engine(self) -> dict[str, list[tuple[str, float]]]:
        """Return the engine's own times of each request, by the gateway's id."""
        told = [json.loads(line) for line in self.engine_log.read_text().splitlines()]
        return {one["id"].rpartition("-")[0]: one["events"] for one in told if one["id"]}


@contextmanager
def system(
    folder: Path, *, engine: dict[str, Any], admission: dict[str, Any] | None = None
) -> Iterator[System]:
    """Start both processes, and end them afterwards."""
    port = free_port()
    made = document(folder, f"http://127.0.0.1:{port}", drain_s=1)
    made["limits"] = {"defaults": {}}
    if admission is not None:
        made["gateway"]["admission"] = admission
    key = write_key(folder / "keys", scopes={"see_reasoning": True})
    (folder / "config.yaml").write_text(yaml.safe_dump(made))
    told = {"port": port, "log": str(folder / "engine.jsonl"), "key_file": str(folder / "engine.key")}
    commands = {
        "engine": [
            sys.executable,
            "-m",
            "tests.loadtest.live.timed_sim",
            json.dumps({**told, "engine": engine}),
        ],
        "gateway": [sys.executable, "-m", "cluster", "gateway", "--config", str(folder / "config.yaml")],
    }
    started = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                started.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        gateway = made["gateway"]
        found = System(
            f"http://{gateway['listen']}/v1",
            f"http://{gateway['admin_listen']}",
            key,
            folder / "engine.jsonl",
        )
        _await(found, started, folder)
        yield found
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=20)


def _await(found: System, started: list["subprocess.Popen[bytes]"], folder: Path) -> None:
    """Wait until a question is answered."""
    deadline_s = time.monotonic() + _START_S
    body = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"authorization": f"Bearer {found.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{found.base_url}/chat/completions", json.dumps(body).encode(), headers)
    while time.monotonic() < deadline_s:
        assert all(process.poll() is None for process in started), "\n".join(
            path.read_text() for path in folder.glob("*.log")
        )
        with suppress(OSError), urllib.request.urlopen(request, timeout=5):
            return
        time.sleep(0.1)
    raise TimeoutError((folder / "gateway.log").read_text())
