"""A tour of a real gateway: every outcome and every kind of ending, with a canary in every place.

The gateway is a process of its own at log level ``debug``, in front of a scripted engine, with limits in
Redis and a trusted issuer of tokens. What it tells, its answers' headers, metrics and both outputs, is kept.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from cluster.core.keys import key_id
from tests.gateway.canaries import Canaries
from tests.gateway.canary_bodies import chat, response_body, wrong_bodies
from tests.gateway.canary_engines import (
    broken_streams,
    chat_answer,
    chat_events,
    failing_scripts,
    response_answer,
    response_events,
)
from tests.gateway.faulty_gateway import BUG_HEADER, BUGS, FATAL
from tests.gateway.raw import RawClient, connect
from tests.gateway.test_server import document, half, until, wait_ready, write_key
from tests.gateway.upstream import Upstream, chat_usage, respond, silent, stream
from tests.redis_servers import RedisServer, free_port
from tests.stores.issuer import AUDIENCE, ISSUER, jwk, jwks, token

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
TENANTS: dict[str, dict[str, Any]] = {
    "acme": {},
    "lab": {"scopes": {"see_reasoning": True}},
    "narrow": {"scopes": {"models": ["gpt-oss-20b"], "endpoints": ["chat"], "max_effort": "low"}},
    "seldom": {"limits": {"requests_per_min": 1}},
    "little": {"limits": {"tokens_per_min": 1}},
    "spent": {"limits": {"tokens_per_day": {"medium": 1}}},
}
"""What is in each tenant's record."""


@dataclass
class Told:
    """What the gateway has told."""

    canaries: Canaries
    headers: set[str] = field(default_factory=set)
    """Names of all answers' headers."""
    sent: int = 0
    """Requests sent to the API address."""
    metrics: str = ""
    out: str = ""
    err: str = ""
    exit_status: int | None = None

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of one kind, such as ``usage``."""
        return [line for line in map(json.loads, self.out.splitlines()) if line["log"] == kind]


@asynccontextmanager
async def toured(folder: Path) -> AsyncIterator[Told]:
    """Give what a gateway told on a tour."""
    told, upstream = Told(Canaries()), Upstream()
    made, keys = prepare(folder, told.canaries, await upstream.start())
    redis = start_redis(folder, made, told.canaries)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(made))
    api, admin = (f"http://{made['gateway'][name]}" for name in ("listen", "admin_listen"))
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.gateway.faulty_gateway", str(config), stdout=out, stderr=err
        )
    try:
        async with aiohttp.ClientSession() as http:
            await asyncio.wait_for(wait_ready(http, admin, process), 30)
            tour = Tour(told, upstream, http, api, admin, keys)
            await tour.take()
            redis.end(signal.SIGKILL)
            await tour.go_on_alone(folder / "keys")
            told.metrics = await (await http.get(f"{admin}/metrics")).text()
            await tour.leave(process)
            told.exit_status = await asyncio.wait_for(process.wait(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        redis.end(signal.SIGKILL)
        await upstream.stop()
    told.out, told.err = (folder / "out").read_text(), (folder / "err").read_text()
    yield told


def prepare(folder: Path, canary: Canaries, url: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the files of a gateway; return its settings document, and keys by the names of their tenants."""
    made = document(folder, url)
    (folder / "engine.key").write_text(canary("engine key"))
    (folder / "pepper").write_text(canary("pepper").ljust(32, "p"))
    (folder / "jwks").write_bytes(jwks(jwk("k1")))
    pepper = (folder / "pepper").read_bytes()
    keys = {
        name: canary.keep(f"key of {name}", write_key(folder / "keys", name, pepper=pepper, **more))
        for name, more in TENANTS.items()
    }
    made["logging"] = {"level": "debug"}
    made["gateway"] |= {"max_body_bytes": 50_000, "trusted_proxies": ["127.0.0.1"]}
    made["auth"]["jwt"] = [
        {
            "name": "corp",
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks": {"file": str(folder / "jwks")},
            "claims": {"tenant": "tenant"},
        }
    ]
    return made, keys


def start_redis(folder: Path, made: dict[str, Any], canary: Canaries) -> RedisServer:
    """Start a Redis with a password, and name it in the settings document."""
    password = canary("password of Redis")
    (folder / "redis-password").write_text(password)
    server = RedisServer(folder, free_port(), {"requirepass": password})
    server.start()
    made["limits"] = {
        "store": "redis",
        "redis": {
            "url": f"redis://127.0.0.1:{server.port}",
            "password_file": str(folder / "redis-password"),
            "timeout_ms": 500,
        },
        "max_request_s": 2,
    }
    return server


@dataclass
class Tour:
    """Sends requests of every kind."""

    told: Told
    upstream: Upstream
    http: aiohttp.ClientSession
    api: str
    admin: str
    keys: dict[str, str]

    async def take(self) -> None:
        """Go everywhere but where Redis or the gateway ends."""
        await self.good_requests()
        await self.strangers()
        await self.wrong_requests()
        await self.wrong_heads()
        await self.limits()
        await self.failing_engines()
        await self.bugs()
        await self.endings()

    async def ask(
        self,
        name: str,
        body: Any,
        *,
        path: str = CHAT,
        key: str = "acme",
        headers: Any = (),
        script: Any = None,
    ) -> int:
        """Send a request, read its answer, and keep what it tells; return its status."""
        if script is not None:
            self.upstream.then(script)
        canary = self.told.canaries
        given = {
            "authorization": f"Bearer {self.keys.get(key, key)}",
            "x-request-id": "of-the-client",
            "x-trace": canary(f"{name}: header"),
            "cookie": canary(f"{name}: cookie"),
            "user-agent": canary(f"{name}: user agent"),
            **dict(headers),
        }
        url = f"{self.api}{path}?api_key={canary(f'{name}: query')}"
        sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        if isinstance(body, bytes):
            given.setdefault("content-type", "application/json")
        async with self.http.post(url, headers=given, **sent) as answer:
            try:
                await answer.read()
            except aiohttp.ClientPayloadError:
                given["cut"] = "yes"
            self.note(answer)
            return answer.status

    async def good_requests(self) -> None:
        """Be served, on both endpoints, whole and streamed, with a key and with a token."""
        canary = self.told.canaries
        bearer = canary.keep("token", token(tenant="lab", email=canary("claim")))
        for part in bearer.split("."):
            canary.keep("part of a token", part)
        asked = chat(canary)
        tool = asked["tools"][0]["function"]["name"]
        for key in ("acme", "lab", bearer):
            for path, body, whole, streamed in (
                (CHAT, asked, chat_answer(canary), chat_events(canary, tool)),
                (RESPONSES, response_body(canary), response_answer(canary), response_events(canary)),
            ):
                for script, more in ((respond(200, whole), {}), (stream(*streamed), {"stream": True})):
                    status = await self.ask("good", {**body, **more}, path=path, key=key, script=script)
                    assert status == 200, (path, more)
        long = {**chat_answer(canary), "usage": chat_usage(reasoning=64)}
        await self.ask("truncated", chat(canary, reasoning_effort="high"), script=respond(200, long))
        await self.ask("alias", chat(canary, model="gpt-oss", user="x"), script=respond(200, long))

    async def strangers(self) -> None:
        """Be refused for who one is."""
        canary = self.told.canaries
        wrong = self.keys["acme"][:20] + "0" * 35
        body = chat(canary)
        for key in (
            canary("wrong key"),
            canary.keep("wrong secret", wrong),
            canary.keep("token of nobody", token(sub="canary sub")),
            "x" * 9000,
        ):
            await self.ask("stranger", body, key=key)
        for headers in (
            {"authorization": f"Basic {canary('basic credentials')}"},
            {"authorization": canary("bare credentials"), "x-api-key": canary("another header")},
            {"x-forwarded-for": "203.0.113.7"},
        ):
            await self.ask("stranger", body, headers=headers, key="nobody")
        await self.ask("not this model", body, key="narrow")
        await self.ask("not this endpoint", response_body(canary), path=RESPONSES, key="narrow")
        await self.ask("no such path", body, path=f"/v1/{canary('path')}")
        for path, key in ((CHAT, "acme"), ("/v1/models", "acme"), (f"/v1/models/{canary('model')}", "acme")):
            headers = {"authorization": f"Bearer {self.keys[key]}"}
            async with self.http.get(self.api + path, headers=headers) as answer:
                self.note(answer)

    async def wrong_requests(self) -> None:
        """Be refused for what one sends."""
        canary = self.told.canaries
        for number, body in enumerate(wrong_bodies(canary)):
            status = await self.ask(f"wrong body {number}", body)
            assert 400 <= status < 500, (number, status)
        for headers in ({"content-type": canary("media type")}, {"content-encoding": canary("encoding")}):
            await self.ask("wrong head", json.dumps(chat(canary)).encode(), headers=headers)

    async def wrong_heads(self) -> None:
        """Be refused below HTTP."""
        word = self.told.canaries
        for wire in (
            f"GET /{word('url')} HTTP/9.9\r\nHost: a\r\n\r\n",
            f"{word('method')} / HTTP/1.1\r\nHost: a\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: {word('host')}/\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: a\r\n{word('header name')}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: {word('upgrade')}\r\nConnection: upgrade\r\n\r\n",
            f"GET /{word('long url') * 200} HTTP/1.1\r\nHost: a\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: a\r\nX: {word('long header') * 2000}\r\n\r\n",
            f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {word('transfer encoding')}\r\n\r\n",
            f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{word('chunk')}\r\n",
        ):
            client = await self.send(wire.encode())
            assert (await client.answer()).status >= 400, wire
            await client.close()

    async def limits(self) -> None:
        """Be refused for having had enough."""
        canary = self.told.canaries
        self.upstream.then(respond(200, chat_answer(canary)))
        found = [
            await self.ask("limited", chat(canary), key=key)
            for key in ("seldom", "seldom", "little", "spent")
        ]
        assert found == [200, 429, 429, 429]

    async def failing_engines(self) -> None:
        """Meet an engine that fails, whole and streamed."""
        canary = self.told.canaries
        for number, script in enumerate(failing_scripts(canary)):
            for streamed in (False, True):
                await self.ask(f"engine {number}", chat(canary, stream=streamed), script=script)
        poison, dead = chat(canary), {"error": {"message": "EngineCore is dead", "code": 500}}
        for _ in range(2):
            assert await self.ask("poison", poison, script=respond(500, dead)) == 502
        for events in broken_streams(canary):
            await self.ask("broken stream", chat(canary, stream=True), script=stream(*events, end=False))
            await self.ask("broken stream", chat(canary, stream=True), script=stream(*events))

    async def bugs(self) -> None:
        """Meet the gateway's own bugs."""
        canary = self.told.canaries
        for bug in BUGS:
            self.upstream.then(respond(200, chat_answer(canary)))
            status = await self.ask(f"bug {bug}", chat(canary), headers={BUG_HEADER: bug})
            assert status == (500 if bug in FATAL else 200), (bug, status)

    async def endings(self) -> None:
        """Leave before the answer and in the middle of it, and wait for too long."""
        canary = self.told.canaries
        for script in (silent, half):
            self.upstream.requests.clear()
            self.upstream.then(script)
            client = await self.send(self.wire(chat(canary, stream=True)))
            await until(self.asked)
            if script is half:
                await client.reader.readuntil(b"Hel")
            await client.close()
            await asyncio.wait_for(self.upstream.requests[0].gone.wait(), 10)
        assert await self.ask("too slow", chat(canary, stream=True), script=silent) == 503

    async def go_on_alone(self, keys: Path) -> None:
        """Go on without Redis, and with a record that an editor has broken."""
        canary = self.told.canaries
        assert await self.ask("alone", chat(canary), script=respond(200, chat_answer(canary))) == 200
        record = keys / f"key.{key_id(self.keys['narrow'])}.json"
        slip = {"id": canary("id in a record"), "secrets": [{"digest": self.keys["narrow"]}]}
        record.write_text(json.dumps(slip))
        (keys / "tenant.seldom.json").unlink()

        async def refused() -> bool:
            return await self.ask("removed", chat(canary), key="seldom") == 401

        await until(refused)

    async def leave(self, process: asyncio.subprocess.Process) -> None:
        """Shut the gateway down, and hurry it, while it streams."""
        canary = self.told.canaries
        self.upstream.then(half)
        client = await self.send(self.wire(chat(canary, stream=True)))
        await client.reader.readuntil(b"Hel")
        process.send_signal(signal.SIGTERM)

        async def drains() -> bool:
            return (await self.http.get(f"{self.admin}/readyz")).status == 503

        await until(drains)
        assert await self.ask("draining", chat(canary)) == 503
        process.send_signal(signal.SIGTERM)
        await client.ended()
        await client.close()

    def note(self, answer: aiohttp.ClientResponse) -> None:
        """Keep what an answer's head tells."""
        self.told.sent += 1
        self.told.headers |= {header.lower() for header in answer.headers}

    async def send(self, wire: bytes) -> RawClient:
        """Send bytes on a connection of their own."""
        self.told.sent += 1
        client = await connect(self.api)
        await client.send(wire)
        return client

    async def asked(self) -> bool:
        """Whether the engine has a request."""
        return bool(self.upstream.requests)

    def wire(self, body: dict[str, Any]) -> bytes:
        """Return a request's bytes."""
        payload = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self.keys['acme']}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        return head.encode() + payload
