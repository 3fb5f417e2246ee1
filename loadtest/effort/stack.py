"""The stack that is measured: Ray Serve with two pools of simulated engines, and a gateway before one.

Both pools have the same engines. One is the product's: behind the gateway and its routers, with the
priorities that the gateway sets. The other is asked directly, through Ray Serve's own round-robin router, and
its engines get no priorities: first come, first served.
"""

import http.client
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster import processes
from cluster.core.effort import EFFORTS
from cluster.core.engine import LOAD_HEADER, parse_load
from cluster.demo import document, machine
from cluster.demo.children import Child, DemoError, lines, spawn
from cluster.demo.document import State
from cluster.demo.machine import Ports
from loadtest.effort import arrivals
from loadtest.effort.client import MODEL, Target
from loadtest.effort.results import System

REPLICAS, SLOTS, TOKEN_MS = 2, 8, 40
"""Of each pool; a request of n tokens holds its slot for n times 40 ms."""
TTFT_S = (1 + 3) * TOKEN_MS / 1000
"""The engine's own time to the first token that shows: three of Harmony's frame go before it."""
CAPACITY_TOKENS_PER_S = REPLICAS * SLOTS * 1000 / TOKEN_MS
START_LIMIT_S = 240.0
IDLE_LIMIT_S = 30.0
"""A pool whose clients have all left must be empty after so long."""
SETTLE_S = 5.0
"""HAProxy asks the routers from two seconds after a start on."""
_POOLS: dict[System, str] = {"gateway": "effort", "round-robin": "round-robin"}
_TENANT = "research"
"""It may see the chain of thought, so that its first token shows."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that answers."""

    targets: dict[System, Target]
    children: tuple[Child, ...]
    serve: int
    """Port of HAProxy."""
    key: str
    """The engine key."""

    def await_idle(self) -> None:
        """Wait until no engine runs or holds a request. Raises `DemoError` for one that stays busy."""
        deadline_s = time.monotonic() + IDLE_LIMIT_S
        for pool in _POOLS.values():
            idle = 0
            while idle < 4 * REPLICAS:  # answers of one replica after another
                idle = idle + 1 if self._is_idle(pool) else 0
                if time.monotonic() > deadline_s:
                    raise DemoError(
                        f"pool {pool} still has requests {IDLE_LIMIT_S:g} s after all clients left"
                    )
                time.sleep(0.05)
        for child in self.children:
            child.check()

    def _is_idle(self, pool: str) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", self.serve, timeout=10)) as connection:
            connection.request("GET", f"/{pool}/v1/models", headers={"authorization": f"Bearer {self.key}"})
            load = parse_load(connection.getresponse().headers[LOAD_HEADER] or "")
        return load is not None and load.running == load.waiting == 0


@contextmanager
def running(folder: Path, doing: Callable[[str], None]) -> Iterator[Stack]:
    """Start everything, and end all of it afterwards. Raises `DemoError`."""
    state, mark = State(folder), uuid.uuid4().hex
    guard = processes.guard(mark, os.environ)
    os.environ[processes.MARK] = mark
    try:
        yield _start(state, machine.free_ports(), doing)
    finally:
        processes.end(mark)
        del os.environ[processes.MARK]
        guard.communicate()


def _start(state: State, ports: Ports, doing: Callable[[str], None]) -> Stack:
    document.prepare(state)
    key, client_key = state.engine_key.read_text(), document.client_keys(state)[_TENANT]
    everything = _write(state, "serve.yaml", _document(state, ports, list(_POOLS.values())))
    ours = _write(state, "gateway.yaml", _document(state, ports, [_POOLS["gateway"]]))
    os.environ.update(ports.environment())
    command = ("loadtest.effort.serve", str(everything), _POOLS["round-robin"])
    serving = spawn("serving", state.log("serving"), *command)
    gateway = spawn("gateway", state.log("gateway"), "cluster", "gateway", "--config", str(ours))
    _follow(serving, gateway, doing)
    time.sleep(SETTLE_S)
    targets: dict[System, Target] = {
        "gateway": Target(f"http://127.0.0.1:{ports.gateway}/v1", client_key),
        "round-robin": Target(f"http://127.0.0.1:{ports.serve}/{_POOLS['round-robin']}/v1", key),
    }
    return Stack(targets, (serving, gateway), ports.serve, key)


def _write(state: State, name: str, content: dict[str, Any]) -> Path:
    path = state.folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _follow(serving: Child, gateway: Child, doing: Callable[[str], None]) -> None:
    for line in lines(serving, [gateway], limit_s=START_LIMIT_S):
        event = json.loads(line) if line else {}
        if "ready" in event:
            return
        doing(f"starting Ray Serve with {len(_POOLS)} pools of {REPLICAS} simulated engines")


def _document(state: State, ports: Ports, pools: list[str]) -> dict[str, Any]:
    pool = {
        "model": MODEL,
        "profile": "cpu",
        "engine": "sim",
        "replicas": {"min": REPLICAS, "max": REPLICAS},
        "sim": {
            "slots": SLOTS,
            "ttft_ms": TOKEN_MS,
            "inter_token_ms": TOKEN_MS,
            "inter_token_per_request_ms": 0,
            "reasoning_tokens": dict(arrivals.REASONING_TOKENS),
            "answer_tokens": arrivals.ANSWER_TOKENS,
        },
    }
    efforts = {
        effort: {
            "max_output_tokens": 10 * arrivals.MEAN_TOKENS[effort],
            "expected_output_tokens": arrivals.MEAN_TOKENS[effort],
            "slo": {"wait_s": arrivals.DEADLINES_S[effort]},
        }
        for effort in EFFORTS
    }
    return {
        "version": 1,
        "gateway": {
            "listen": f"127.0.0.1:{ports.gateway}",
            "admin_listen": f"127.0.0.1:{ports.admin}",
            "stream": {"drain_s": 1},
        },
        "serving": {
            "url": f"http://127.0.0.1:{ports.serve}",
            "engine_key_file": str(state.engine_key),
            "pools": dict.fromkeys(pools, pool),
        },
        "models": {MODEL: {"pools": pools, "source": "unused", "efforts": efforts}},
        "limits": {"defaults": {}},  # none: all requests are one tenant's
        "auth": {"keys": {"source": "file", "path": str(state.keys)}, "pepper_file": str(state.pepper)},
    }
