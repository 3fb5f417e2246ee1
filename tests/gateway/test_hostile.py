"""A hundred thousand hostile requests: a gateway's series, memory and log stay what they should be.

They come over real sockets from one pipelining client to a gateway process, so that its memory is its alone.
"""

import asyncio
import random
import re
import sys
from asyncio.subprocess import Process
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from cluster.gateway.telemetry import MAX_TENANTS
from tests.gateway import contract_document as contract
from tests.gateway.raw import RawClient, connect
from tests.gateway.test_series import labels, series
from tests.gateway.test_server import document, wait_ready, write_key
from tests.gateway.upstream import Upstream, completion, respond

REQUESTS, TENANTS = 100_000, 2000
BATCH = 8
"""Requests in one write: as many as the gateway reads ahead."""
CLIENTS = 8
GROWTH_MIB = 8
"""Most memory that the second half may add: everything that is kept is full after the first."""
WORDS = [
    "gpt-oss-120b", "gpt-oss-20b", "gpt-oss", "low", "medium", "high", "none", "other", "xhigh", "tenant-0",
    "", "\0", "\u202e", "é" * 20, "日本語", "😀", "<|end|>", "{}", "\\", "../..", "%2e%2e%2f", "a" * 1000,
    '"} 1\ngptoss_requests_total{tenant="x',
]  # fmt: skip
PATHS = [
    "/v1/chat/completions", "/v1/responses", "/v1/models", "/v1/models/", "/metrics", "/", "/v1/", "//",
    "/%00",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "M-SEARCH"]
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ")


@dataclass
class Mob:
    """Makes and sends the requests; the same each time."""

    url: str
    keys: list[str]
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    statuses: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    words: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.words = ["".join(self.rng.choices("abcXYZ019-._~%&=+$", k=60)) for _ in range(10_000)]

    async def rage(self, requests: int) -> None:
        """Send this many requests over a few connections."""
        batches = [BATCH] * (requests // BATCH)
        await asyncio.gather(*(self._client(batches) for _ in range(CLIENTS)))

    async def _client(self, batches: list[int]) -> None:
        client = await connect(self.url)
        while batches:
            wires = [self.request() for _ in range(batches.pop())]
            if self.rng.random() < 0.2:  # after a request that breaks HTTP the connection ends
                wires[-1] = self.broken()
            await client.send(b"".join(wires))
            self.sent += len(wires)
            if not await self._answers(client, len(wires)):
                await client.close()
                client = await connect(self.url)
        await client.close()

    async def _answers(self, client: RawClient, wanted: int) -> bool:
        """Count answers; return whether the connection goes on."""
        rest = b""
        while wanted:
            data = await asyncio.wait_for(client.reader.read(65536), 30)
            if not data:
                raise AssertionError(f"{wanted} answers are missing")
            rest += data
            found = list(_STATUS.finditer(rest))
            for match in found:
                self.statuses[int(match[1])] += 1
            wanted -= len(found)
            rest = rest[found[-1].end() if found else -16 :]
        return b"connection: close" not in rest

    def request(self) -> bytes:
        """Return a request that is sound HTTP."""
        kind = self.rng.random()
        if kind < 0.25:
            return self.post(self.token(), self.body())
        if kind < 0.75:
            return self.post(self.rng.choice(self.keys), self.body())
        if kind < 0.82:
            return self.post(self.rng.choice(self.keys), self.good())
        path = self.rng.choice(PATHS) + self.visible(12)
        return self.head(self.rng.choice(METHODS), path, self.rng.choice(self.keys)) + b"\r\n"

    def broken(self) -> bytes:
        """Return what is no HTTP, or asks for too much."""
        word = self.visible(8)
        return self.rng.choice(
            [
                f"{word} / HTTP/1.1\r\nHost: a\r\n\r\n",
                f"GET /{word} HTTP/3.0\r\nHost: a\r\n\r\n",
                f"GET /{word}\r\n\r\n",
                f"GET / HTTP/1.1\r\nHost: {word}/{word}\r\n\r\n",
                f"GET /{word * 400} HTTP/1.1\r\nHost: a\r\n\r\n",
                f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {word}\r\n\r\n",
            ]
        ).encode("latin-1")

    def post(self, key: str, body: bytes) -> bytes:
        """Return a request with a body."""
        head = self.head("POST", self.rng.choice(PATHS[:2]), key)
        return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def head(self, method: str, path: str, key: str) -> bytes:
        """Return a head, but for its end."""
        bits = self.rng.getrandbits
        address = f"{bits(8)}.{bits(8)}.{bits(8)}.{bits(8)}" if bits(1) else "192.0.2.7"
        return (
            f"{method} {path} HTTP/1.1\r\nHost: a{bits(20)}\r\nAuthorization: Bearer {key}\r\n"
            f"X-Forwarded-For: {address}\r\nX-{bits(30)}: {bits(60)}\r\nX-Request-Id: {self.visible(20)}\r\n"
        ).encode("latin-1")

    def body(self) -> bytes:
        """Return a body with words where they do not belong."""
        rng = self.rng
        member = rng.choice(["user", "metadata", "effort", "reasoning_effort", "stream", self.visible(6)])
        role = rng.choice(["user", "tool", rng.choice(WORDS)])
        document: dict[str, Any] = {
            "model": rng.choice(WORDS) + str(rng.getrandbits(rng.choice((1, 40)))),
            "messages": [{"role": role, "content": rng.choice(WORDS)}],
            member: rng.choice(WORDS),
        }
        return orjson.dumps(document)[: rng.choice((9999, 9999, 9999, 40))]

    def good(self) -> bytes:
        """Return a body that is served by one of the endpoints."""
        rng = self.rng
        document = {
            "model": rng.choice(WORDS[:3]),
            "reasoning_effort": rng.choice(WORDS[3:6]),
            "messages": [{"role": "user", "content": f"Hello {rng.getrandbits(60)}"}],
            "user": self.visible(9),
        }
        return orjson.dumps(document)

    def token(self) -> str:
        """Return what is no live key."""
        live, word = self.rng.choice(self.keys), self.visible(55)
        return self.rng.choice(["", live[:-9] + word[:9], live[:30], word, "a.b.c", live * 100])

    def visible(self, length: int) -> str:
        """Return visible ASCII that breaks no head."""
        return self.rng.choice(self.words)[:length]


@pytest.mark.integration
async def test_no_request_adds_series_or_memory_without_end(tmp_path: Path) -> None:
    """Random models, efforts, keys, paths, methods and headers, from 2,000 tenants."""
    upstream = Upstream()
    made = document(tmp_path, await upstream.start())
    made["gateway"]["trusted_proxies"] = ["127.0.0.1"]
    upstream.then(respond(200, completion()))
    keys = [write_key(tmp_path / "keys", f"tenant-{number}") for number in range(TENANTS)]
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(made))
    api, admin = (f"http://{made['gateway'][name]}" for name in ("listen", "admin_listen"))
    with out.open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cluster", "gateway", "--config", str(config), stdout=stdout, stderr=stdout
        )
    mob = Mob(api, keys)
    async with aiohttp.ClientSession() as http:
        await asyncio.wait_for(wait_ready(http, admin, process), 30)
        await mob.rage(REQUESTS // 2)
        before = memory_mib(process)
        await mob.rage(REQUESTS // 2)
        grown = memory_mib(process) - before
        async with http.get(f"{admin}/metrics") as response:
            metrics = await response.text()
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) == 0
    await upstream.stop()
    assert mob.sent == sum(mob.statuses.values()) == REQUESTS
    assert mob.statuses.keys() == {200, 400, 401, 404, 405, 414, 429}
    assert grown < GROWTH_MIB
    assert series(metrics) < contract.MAX_SERIES
    for metric, label, seen in labels(metrics):
        if label == "tenant":
            assert len(seen - {"none", "other"}) <= MAX_TENANTS
            assert all(re.fullmatch(r"tenant-\d+|none|other", name) for name in seen)
        elif label == "pool":
            assert seen == set(made["serving"]["pools"])
        else:
            assert seen <= contract.label_values(label, metric)
        if (metric, label) == ("gptoss_requests_total", "tenant"):
            assert len(seen) == MAX_TENANTS + 2
    told = Counter(outcome_of(line) for line in out.read_bytes().splitlines())
    assert told.keys() <= contract.OUTCOMES | {"audit", "log"}
    assert told.total() - told["audit"] - told["log"] == REQUESTS
    assert told["log"] < 20


def outcome_of(line: bytes) -> str:
    """Return the outcome that a usage line tells, or the kind of another line."""
    assert len(line) < 1000
    told = orjson.loads(line)
    return str(told["outcome"] if told["log"] == "usage" else told["log"])


def memory_mib(process: Process) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]
