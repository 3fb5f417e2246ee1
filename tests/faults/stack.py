"""What is broken on purpose: Ray Serve with two simulated replicas, two gateways, one Redis for both."""

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from cluster import processes
from cluster.demo import document as demo
from cluster.demo.document import State
from cluster.demo.machine import Ports, free_ports
from cluster.settings import parse
from tests import certificates
from tests.certificates import Certificates
from tests.redis_servers import RedisServer, free_port

POOL, MODEL, TENANT = "small", "gpt-oss-20b", "research"
REPLICAS, ROUTERS = 2, 2
INTER_TOKEN_MS = 40
MAX_REQUEST_S = 25
"""Longest request; what a killed gateway had reserved is free again 60 s after that."""
START_LIMIT_S = 240.0
REDIS_TIMEOUT_MS = 250
"""More than the default of 50: a Redis that waits for a core beside all of this is slow, and not away."""
SIM = {
    "slots": 64,
    "ttft_ms": 40,
    "inter_token_ms": INTER_TOKEN_MS,
    "inter_token_per_request_ms": 0,
    "reasoning_tokens": {"low": 8, "medium": 16, "high": 150},
    "answer_tokens": 24,
    "faults": True,
}


class Away(Exception):  # noqa: N818  what it is
    """What was asked cannot answer now."""


@dataclass
class Serving:
    """The process that started Ray, and what it knows of Serve."""

    process: Process
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def command(self, command: dict[str, Any], limit_s: float = 15) -> dict[str, Any]:
        """Send a command and return its answer. Raises `Away`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self.lock:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            try:
                async with asyncio.timeout(limit_s):
                    line = await self.process.stdout.readline()
            except TimeoutError as error:
                raise Away(f"Serve did not answer within {limit_s:g} s") from error
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the serving process has ended"}
        if "error" in answer:
            raise Away(str(answer["error"]))
        return answer


@dataclass
class Gateway:
    """One gateway: its addresses, and the process that is it at the moment."""

    name: str
    config: Path
    api: str
    admin: str
    logs: Path
    process: Process | None = None
    generation: int = 0

    async def start(self, *, output: Path | None = None, module: str = "cluster", **environment: str) -> None:
        """Start a process, with a log of its own or ``output`` in its place; return once it is ready."""
        self.generation += 1
        log = output or self.logs / f"{self.name}-{self.generation}.jsonl"
        command = [sys.executable, "-m", module, "gateway", "--config", str(self.config)]
        with log.open("ab") as out, (self.logs / f"{self.name}-errors.log").open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=out, stderr=errors, env={**os.environ, **environment}
            )
        await until(self.ready, limit_s=60, what=f"gateway {self.name} is ready")

    async def ready(self) -> bool:
        """Whether it takes requests."""
        return await self._text("/readyz") is not None

    async def metric(self, sample: str) -> float:
        """Return a metric's value, by its line's beginning; 0 where there is none. Raises `Away`."""
        text = await self._text("/metrics")
        if text is None:
            raise Away(f"gateway {self.name} shows no metrics")
        found = [line for line in text.splitlines() if line.startswith(f"{sample} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    async def shares(self) -> bool:
        """Whether its limits are those of all gateways."""
        try:
            return await self.metric("gptoss_limiter_degraded") == 0
        except Away:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end and return its status."""
        assert self.process is not None
        return await self.process.wait()

    async def _text(self, path: str) -> str | None:
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
                http.get(self.admin + path) as answer,
            ):
                return await answer.text() if answer.status == 200 else None
        return None


@dataclass
class Stack:
    """Everything, up."""

    folder: Path
    mark: str
    redis: RedisServer
    certificates: Certificates
    serving: Serving
    gateways: list[Gateway]
    settings: dict[str, Any]
    """The settings document that Serve was given."""
    key: str
    orphans: set[str] = field(default_factory=set)
    """Requests whose gateway was killed: what they hold is free once their leases have ended."""

    def find(self, *words: str) -> list[int]:
        """Return the ids of the run's processes whose command line has all these words, or a word's ``!``."""
        found = []
        for process in processes.found(self.mark):
            with suppress(FileNotFoundError, ProcessLookupError):
                line = Path(f"/proc/{process.id}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if all(word[1:] not in line if word[0] == "!" else word in line for word in words):
                    found.append(process.id)
        return sorted(found)

    def replicas(self) -> list[int]:
        """Return the processes of the pool's replicas."""
        return self.find("ray::ServeReplica", f"SimServer:{POOL}", "!LLMRouter")

    def routers(self) -> list[int]:
        """Return the processes of the request routers."""
        return self.find("ray::ServeReplica", "LLMRouter")

    async def whole(self) -> bool:
        """Whether all parts are up: replicas, routers, gateways, and their shared limits."""
        try:
            pool = (await self.serving.command({}))[POOL]
        except (Away, KeyError):
            return False
        counts = pool["running"]
        replicas = sum(count for name, count in counts.items() if "LLMRouter" not in name)
        routers = sum(count for name, count in counts.items() if "LLMRouter" in name)
        if (pool["status"], replicas, routers) != ("RUNNING", REPLICAS, ROUTERS):
            return False
        if (len(self.replicas()), len(self.routers())) != (REPLICAS, ROUTERS) or not self.find("bin/haproxy"):
            return False
        return all([await gateway.ready() and await gateway.shares() for gateway in self.gateways])

    def log_sizes(self) -> dict[Path, int]:
        """Return how much each gateway process has logged so far, in bytes."""
        return {path: path.stat().st_size for path in (self.folder / "logs").glob("*.jsonl")}

    def usage_lines(self, since: dict[Path, int]) -> list[dict[str, Any]]:
        """Return the usage lines that were written after `log_sizes` was ``since``."""
        made = []
        for path in self.log_sizes():
            text = path.read_bytes()[since.get(path, 0) :]
            made += [json.loads(line) for line in text.split(b"\n") if line.endswith(b"}")]
        return [line for line in made if line["log"] == "usage"]


async def until(check: Callable[[], Awaitable[bool]], *, limit_s: float, what: str) -> float:
    """Return the seconds until ``check`` held. Raises ``TimeoutError`` with ``what`` it waited for."""
    begun_s = time.monotonic()
    while not await check():
        if time.monotonic() - begun_s > limit_s:
            raise TimeoutError(f"after {limit_s:g} s it is still not so that {what}")
        await asyncio.sleep(0.1)
    return time.monotonic() - begun_s


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Stack]:
    """Start everything; end all of it afterwards, also when this process is killed."""
    ports, mark = free_ports(), uuid.uuid4().hex
    state = State(folder)
    demo.prepare(state)
    (folder / "logs").mkdir()
    guard = processes.guard(mark, os.environ)
    os.environ.update({processes.MARK: mark, **ports.environment()})
    try:
        async with AsyncExitStack() as stack:
            made_certificates = certificates.make(folder)
            redis = _redis(folder, made_certificates)
            stack.callback(redis.end, signal.SIGKILL)
            memory = _memory(folder)
            stack.callback(memory.end, signal.SIGKILL)
            os.environ["RAY_REDIS_ADDRESS"] = f"127.0.0.1:{memory.port}"
            document = settings(state, ports, redis, made_certificates.ca)
            serving = await _serve(folder, document)
            gateways = [await _gateway(folder, document, name) for name in ("one", "two")]
            keys = demo.client_keys(state)
            made = Stack(
                folder,
                mark,
                redis,
                made_certificates,
                serving,
                gateways,
                document,
                keys[TENANT],
            )
            await until(made.whole, limit_s=60, what="all parts are up")
            await asyncio.sleep(3)  # for two seconds after a start HAProxy does not ask the routers
            yield made
    finally:
        await asyncio.to_thread(processes.end, mark)
        for name in (processes.MARK, "RAY_REDIS_ADDRESS"):
            os.environ.pop(name, None)
        await asyncio.to_thread(guard.communicate)


def _redis(folder: Path, made: Certificates) -> RedisServer:
    """Start a Redis that gateways reach over TLS, and the trials without it."""
    own = folder / "redis"
    own.mkdir()
    chain = str(made.chain)
    options = {
        "appendonly": "yes",
        "enable-debug-command": "local",
        "tls-port": str(free_port()),
        "tls-cert-file": chain,
        "tls-key-file": chain,
        "tls-ca-cert-file": str(made.ca),
        "tls-auth-clients": "no",
    }
    server = RedisServer(own, free_port(), options)
    server.start()
    return server


def _memory(folder: Path) -> RedisServer:
    """Start the Redis in which Ray's head keeps what it must know after a restart."""
    own = folder / "ray-redis"
    own.mkdir()
    server = RedisServer(own, free_port())
    server.start()
    return server


async def _serve(folder: Path, document: dict[str, Any]) -> Serving:
    config = folder / "serve.yaml"
    config.write_text(yaml.safe_dump(document))
    with (folder / "logs" / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.serving", str(config), stdin=PIPE, stdout=PIPE, stderr=log
        )
    assert process.stdout is not None
    async with asyncio.timeout(START_LIMIT_S):
        async for line in process.stdout:
            if "ready" in json.loads(line):
                return Serving(process)
    raise Away((folder / "logs" / "serve.log").read_text()[-3000:])


async def _gateway(folder: Path, document: dict[str, Any], name: str) -> Gateway:
    api, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    own = {**document, "gateway": {**document["gateway"], "listen": api, "admin_listen": admin}}
    config = folder / f"gateway-{name}.yaml"
    config.write_text(yaml.safe_dump(own))
    gateway = Gateway(name, config, f"http://{api}", f"http://{admin}", folder / "logs")
    await gateway.start()
    return gateway


def settings(state: State, ports: Ports, redis: RedisServer, ca: Path) -> dict[str, Any]:
    """Return the settings document."""
    url = f"rediss://127.0.0.1:{redis.options['tls-port']}"
    shared = redis.settings(url=url, ca_file=ca, timeout_ms=REDIS_TIMEOUT_MS, assumed_gateways=2)
    pool = {"model": MODEL, "profile": "cpu", "engine": "sim", "sim": SIM}
    made = {
        "version": 1,
        "gateway": {"stream": {"drain_s": 30}},
        "serving": {
            "url": f"http://127.0.0.1:{ports.serve}",
            "engine_key_file": str(state.engine_key),
            "pools": {POOL: {**pool, "replicas": {"min": REPLICAS, "max": REPLICAS}}},
        },
        "models": {MODEL: {"pools": [POOL], "source": "unused"}},
        "limits": {
            "store": "redis",
            "redis": shared.model_dump(mode="json", exclude_defaults=True),
            "max_request_s": MAX_REQUEST_S,
            "defaults": {
                "requests_per_min": 100_000,
                "tokens_per_min": 50_000_000,
                "concurrent": 1000,
                "tokens_per_day": dict.fromkeys(("low", "medium", "high"), 1_000_000_000),
            },
        },
        "auth": {"keys": {"source": "file", "path": str(state.keys)}, "pepper_file": str(state.pepper)},
    }
    parse(made, origin="the faults' settings")
    return made
