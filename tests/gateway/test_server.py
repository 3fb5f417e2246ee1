"""The gateway as a process: start, health, drain and end."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from cluster.core.hint import parse as parse_hint
from cluster.core.keys import RANDOM_BYTES, digest, key_id, mint
from cluster.gateway import server
from cluster.gateway.server import StartError, listen
from cluster.settings import parse
from tests.gateway.conftest import chat_body, settings_document
from tests.gateway.raw import connect
from tests.gateway.upstream import (
    ROLE,
    STREAM_HEAD,
    Connection,
    Upstream,
    chunk,
    completion,
    good_stream,
    respond,
)
from tests.redis_servers import free_port

PEPPER = b"p" * 32
CREATED = "2026-01-01T00:00:00Z"


def write_key(directory: Path, tenant: str = "acme", *, pepper: bytes = PEPPER, **more: Any) -> str:
    """Write a tenant, with ``more`` in its record, and a key for it; return the key."""
    secret = mint(os.urandom(RANDOM_BYTES))
    identity = key_id(secret)
    secrets = [{"digest": digest(pepper, secret)}]
    key = {"id": identity, "tenant": tenant, "created_at": CREATED, "secrets": secrets}
    owner = {"name": tenant, "created_at": CREATED, **more}
    (directory / f"tenant.{tenant}.json").write_text(json.dumps(owner))
    (directory / f"key.{identity}.json").write_text(json.dumps(key))
    return secret


def document(folder: Path, url: str, **stream: Any) -> dict[str, Any]:
    """Return a settings document whose files are in ``folder``."""
    (folder / "keys").mkdir(exist_ok=True)
    (folder / "pepper").write_bytes(PEPPER)
    (folder / "engine.key").write_text("engine-key\n")
    made = settings_document(url)
    made["gateway"] = {
        "listen": f"127.0.0.1:{free_port()}", "admin_listen": f"127.0.0.1:{free_port()}", "stream": stream,
    }  # fmt: skip
    made["serving"]["engine_key_file"] = str(folder / "engine.key")
    made["auth"] = {"keys": {"path": str(folder / "keys")}, "pepper_file": str(folder / "pepper")}
    return made


@dataclass
class Running:
    """A gateway process."""

    process: Process
    api: str
    admin: str
    key: str
    keys: Path
    http: aiohttp.ClientSession
    upstream: Upstream

    async def get(self, path: str) -> tuple[int, str]:
        """Return status and text of an admin path."""
        async with self.http.get(self.admin + path) as response:
            return response.status, await response.text()

    def post(self, *, key: str | None = None, **changes: Any) -> Any:
        """Send a chat request."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        return self.http.post(f"{self.api}/v1/chat/completions", json=chat_body(**changes), headers=headers)

    async def drains(self) -> bool:
        """Whether the process says that it is no longer ready."""
        return (await self.get("/readyz"))[0] == 503

    async def serves(self, key: str) -> bool:
        """Whether ``key`` is good."""
        async with self.post(key=key) as response:
            return bool(response.status == 200)

    async def refuses(self, key: str) -> bool:
        """Whether ``key`` is not known."""
        async with self.post(key=key) as response:
            return response.status in (401, 429)  # 429: after many wrong ones from here

    async def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Wait for the process to end; return its status and what it logged."""
        out, _ = await asyncio.wait_for(self.process.communicate(), 20)
        assert self.process.returncode is not None
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Return once ``check`` holds; a process can only be asked again and again."""
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def start(config: Path) -> Process:
    """Start a gateway process."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cluster", "gateway", "--config", str(config), stdout=PIPE, stderr=PIPE
    )


async def wait_ready(http: aiohttp.ClientSession, admin: str, process: Process) -> None:
    """Return when the process says that it is ready."""
    while process.returncode is None:
        try:
            async with http.get(f"{admin}/readyz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.02)
    raise AssertionError(await process.communicate())


@asynccontextmanager
async def gateway(
    made: dict[str, Any], folder: Path, upstream: Upstream, *, key: str
) -> AsyncIterator[Running]:
    """Run a gateway process with this settings document."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(made))
    process = await start(config)
    api, admin = (f"http://{made['gateway'][name]}" for name in ("listen", "admin_listen"))
    async with aiohttp.ClientSession() as http:
        await asyncio.wait_for(wait_ready(http, admin, process), 30)
        yield Running(process, api, admin, key, folder / "keys", http, upstream)
    if process.returncode is None:
        process.kill()
        await process.communicate()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Return a gateway process in front of a scripted upstream."""
    upstream = Upstream()
    made = document(tmp_path, await upstream.start(), drain_s=30)
    async with gateway(made, tmp_path, upstream, key=write_key(tmp_path / "keys")) as process:
        yield process
    await upstream.stop()


async def half(connection: Connection) -> None:
    """Stream a first word, then wait until the gateway leaves."""
    await connection.send(STREAM_HEAD)
    await connection.event(ROLE, chunk({"content": "Hel"}))
    await connection.until_gone()


@pytest.mark.integration
async def test_a_running_answer_finishes_before_the_process_ends(running: Running) -> None:
    """SIGTERM flips readiness and refuses new work at once; what runs gets its time, then the exit is 0."""
    moment = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.send(STREAM_HEAD)
        await connection.event(ROLE, chunk({"content": "Hel"}))
        await moment.wait()
        await connection.event(chunk({"content": "lo"}), chunk({}, finish="stop"), b"data: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    running.upstream.then(slow)
    async with running.post(stream=True) as response:
        await response.content.readuntil(b"Hel")
        running.process.send_signal(signal.SIGTERM)
        await until(running.drains)
        assert await running.get("/readyz") == (503, "draining\n")
        assert (await running.get("/livez"))[0] == 200
        async with running.post() as refused:
            assert refused.status == 503
        moment.set()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    status, lines = await running.end()
    assert status == 0
    outcomes = [line["outcome"] for line in lines if line["log"] == "usage"]
    assert sorted(outcomes) == ["completed", "shed"]


@pytest.mark.integration
async def test_what_was_learned_is_kept_at_the_end(tmp_path: Path) -> None:
    """SIGTERM leaves a file that the next process starts from."""
    upstream = Upstream()
    upstream.then(respond(200, completion()))
    made = document(tmp_path, await upstream.start())
    made["gateway"]["costs_file"] = str(tmp_path / "costs.json")
    key = write_key(tmp_path / "keys")
    hints = []
    for _ in range(2):
        async with gateway(made, tmp_path, upstream, key=key) as process:
            for _ in range(30):
                assert await process.serves(key)
            process.process.send_signal(signal.SIGTERM)
            assert (await process.end())[0] == 0
        hints.append([parse_hint(seen.headers["x-route-hint"]) for seen in upstream.requests])
        upstream.requests.clear()
    await upstream.stop()
    first, second = ([hint.expected_output_tokens for hint in told if hint] for told in hints)
    assert first[0] > first[-1] > second[-1]
    assert first[-1] >= second[0]


@pytest.mark.integration
async def test_a_second_signal_ends_what_runs_with_an_error(running: Running) -> None:
    """What does not finish in time, or is hurried, ends with an error event and is settled."""
    running.upstream.then(half)
    async with running.post(stream=True) as response:
        await response.content.readuntil(b"Hel")
        running.process.send_signal(signal.SIGTERM)
        await until(running.drains)
        running.process.send_signal(signal.SIGINT)
        rest = await response.read()
    assert b'"code":"server_shutting_down"' in rest
    status, lines = await running.end()
    assert status == 0
    usage = [line for line in lines if line["log"] == "usage"]
    assert [(line["outcome"], line["settled"] > 0) for line in usage] == [("aborted_shutdown", True)]


@pytest.mark.integration
async def test_keys_come_and_go_without_a_restart(running: Running) -> None:
    """A new key works, and a removed one stops working, within seconds."""
    running.upstream.then(respond(200, completion()))
    new = write_key(running.keys, "beta")
    await until(lambda: running.serves(new))
    (running.keys / f"key.{key_id(new)}.json").unlink()
    await until(lambda: running.refuses(new))
    assert await running.serves(running.key)


@pytest.mark.integration
async def test_the_admin_port_tells_the_metrics(running: Running) -> None:
    """Metrics are on the admin address only."""
    running.upstream.then(good_stream())
    async with running.post(stream=True) as response:
        await response.read()
    counted = 'gptoss_requests_total{effort="medium",model="gpt-oss-120b",outcome="completed"'

    async def tells() -> bool:
        return counted in (await running.get("/metrics"))[1]

    await until(tells)  # counted once the client has its last byte
    async with running.http.get(f"{running.api}/metrics") as response:
        assert response.status == 404


@pytest.mark.integration
async def test_the_admin_port_is_as_strict_as_the_api(running: Running) -> None:
    """Its paths are taken as they are written, and what is no sound HTTP is refused and counted there too."""
    line = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n"
    probes = [
        (b"/livez", b"a", 200), (b"/livez/", b"a", 404), (b"/%6civez", b"a", 404), (b"//livez", b"a", 404),
        (b"/livez", b"a/b", 400), (b"http://a/livez", b"a", 400), (b"/livez?" + b"x" * 3000, b"a", 414),
    ]  # fmt: skip
    for target, host, status in probes:
        client = await connect(running.admin)
        await client.send(line % (target, host))
        assert (await client.answer()).status == status
        await client.close()
    assert 'outcome="invalid",tenant="none"} 3.0' in (await running.get("/metrics"))[1]


@pytest.mark.parametrize("setting", ["listen", "admin_listen"])
def test_a_port_in_use_is_named(tmp_path: Path, setting: str) -> None:
    """The error says which address, and which setting changes it."""
    made = document(tmp_path, "http://127.0.0.1:1")
    with listen(made["gateway"][setting], "test") as taken:
        taken.listen()
        with pytest.raises(StartError, match=rf"{made['gateway'][setting]}.*gateway\.{setting} ") as caught:
            server.run(parse(made, origin="test"))
    assert "another process uses it" in str(caught.value)


def test_an_address_of_another_machine_is_refused() -> None:
    """Any other reason is told as the system tells it."""
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:80: "):
        listen("192.0.2.1:80", "gateway.listen")


@pytest.mark.parametrize(("name", "content", "words"), [
    ("engine.key", None, "no such file"), ("engine.key", "two words", "one word"),
    ("engine.key", " \n", "one word"),
    ("pepper", None, "no such file"), ("pepper", "short", "at least 32"),
])  # fmt: skip
def test_a_missing_or_bad_secret_is_told(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    """The error names the file and the command that makes it; no secret is shown."""
    made = document(tmp_path, "http://127.0.0.1:1")
    path = tmp_path / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(StartError, match=words) as caught:
        server.run(parse(made, origin="test"))
    assert str(path) in str(caught.value)
    assert content is None or not content.strip() or content not in str(caught.value)
