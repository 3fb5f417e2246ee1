"""Every row of ``docs/errors.yaml``, sent byte by byte to a gateway in front of the simulated engine."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cluster.core.effort import EFFORTS
from cluster.serving.sim import create_app
from cluster.settings import DailyTokens, RateLimits, SimulatedEngine
from tests.gateway.conftest import KEY, NARROW, World, behind_prefix, caller, running, serving
from tests.gateway.errors_table import FILE, TABLE, Vector, vectors
from tests.gateway.raw import Answer, RawClient, connect

shared_loop = pytest.mark.asyncio(loop_scope="module")

MODEL = "gpt-oss-120b"
FAST = SimulatedEngine(ttft_ms=0, inter_token_ms=0, inter_token_per_request_ms=0)
LIMITED = {
    "one-a-minute": RateLimits(requests_per_min=1),
    "few-tokens": RateLimits(tokens_per_min=10),
    "one-at-once": RateLimits(concurrent=1),
    "no-budget": RateLimits(tokens_per_day=DailyTokens(**dict.fromkeys(EFFORTS, 10))),
}
NOBODY = "key-nobody"
KEYS = {"plain": KEY, "narrow": NARROW, "nobody": NOBODY, **{name: f"key-{name}" for name in LIMITED}}
VECTORS = vectors(KEYS)
IN_FLIGHT = 'gptoss_in_flight{effort="medium",model="gpt-oss-120b"}'
ECHO_BYTES = 200
"""Most bytes of a client's own input that an error may repeat in one piece."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    """Return a gateway in front of a simulated engine that obeys fault words; all vectors share it."""
    app = create_app(
        FAST, model=MODEL, replica="sim-1", engine_key="engine-key", faults=True, max_model_len=4096
    )
    async with serving(behind_prefix(app)) as url:
        pools = {name: {"model": MODEL, "profile": "x"} for name in ("big", "big-b")}
        pools["small"] = {"model": "gpt-oss-20b", "profile": "x"}
        serve = {"url": url, "engine_key_file": "/k", "pools": pools}
        async with running(serving=serve, gateway={"max_body_bytes": 1_000_000}) as made:
            made.keys.callers[KEY] = caller(limits=(RateLimits(),))
            for name, limits in LIMITED.items():
                made.keys.callers[KEYS[name]] = caller(tenant=name, limits=(limits,))
            yield made


def good(key: str = KEY, words: str = "Hi") -> bytes:
    """Return a good request."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": words}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
    return head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def exchange(world: World, wire: bytes, source: str) -> tuple[RawClient, Answer]:
    """Send bytes on a connection of their own, and return the answer."""
    client = await connect(world.url, source=source)
    sending = asyncio.ensure_future(client.send(wire))
    answer = await client.answer()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    return client, answer


def test_every_case_is_there() -> None:
    """The cases are numbered without a gap, but for the one that is not used, and each has its answer."""
    numbers = [case["id"] for case in TABLE["cases"]]
    assert numbers == [number for number in range(1, len(numbers) + 2) if number != 57]
    for case in TABLE["cases"]:
        assert case["title"]
        assert case["answers"] or case["open"], case["id"]
        for answer in case["answers"]:
            assert answer.get("examples") or answer["tested_in"]


def test_there_are_enough_vectors() -> None:
    """Hundreds of different requests, each with a name of its own."""
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)
    assert len({(vector.wire, vector.key) for vector in VECTORS}) > 500


def test_what_is_tested_elsewhere_is_there() -> None:
    """A test that the table names exists."""
    for name in re.findall(r"tested_in: '([^']+)'", FILE.read_text()):
        path, _, function = name.partition("::")
        assert f"def {function}(" in (FILE.parents[1] / "tests" / path).read_text()


@shared_loop
@pytest.mark.parametrize("vector", VECTORS, ids=[vector.name for vector in VECTORS])
async def test_a_row(world: World, vector: Vector) -> None:
    """The request gets its answer and no other, and a good request from its address succeeds after it."""
    source = source_of(vector)
    for _ in range(vector.before):
        client, first = await exchange(world, good(vector.key), source)
        assert first.status == (401 if vector.key == NOBODY else 200)
        await client.close()
    holder = await hold(world, vector) if vector.during else None
    client, answer = await exchange(world, vector.wire, source)
    check(vector, answer)
    if vector.answer.get("closes"):
        assert answer.headers["connection"] == "close"
        assert await client.ended() == b""
    await client.close()
    if holder is not None:
        await holder.close()
    client, after = await exchange(world, good(), source)
    assert after.status == 200
    await client.close()


def source_of(vector: Vector) -> str:
    """Return an address of loopback that no other vector calls from: failures are counted by address."""
    number = VECTORS.index(vector) + 1
    return f"127.1.{number // 250}.{number % 250 + 1}"


async def hold(world: World, vector: Vector) -> RawClient:
    """Keep a request of the same key running, and return its connection once it does."""
    client = await connect(world.url)
    await client.send(good(vector.key, vector.during or ""))
    async with asyncio.timeout(5):
        while not world.metric(IN_FLIGHT):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return client


def check(vector: Vector, answer: Answer) -> None:
    """Check one answer against the table."""
    wanted = vector.answer
    assert answer.status == wanted["status"], answer.body[:300]
    assert len(answer.headers["x-request-id"]) == 36
    if "type" not in wanted:
        return
    error = event_error(answer.body) if wanted.get("event") else answer.error
    assert (error["type"], error["code"], error["param"]) == (wanted["type"], wanted["code"], wanted["param"])
    assert wanted["message"] in error["message"]
    assert ("allow" in answer.headers) == bool(wanted.get("allow"))
    if wanted.get("retry") == "never":
        assert answer.headers["x-should-retry"] == "false"
    elif wanted.get("retry") == "later":
        assert 1 <= int(answer.headers["retry-after"]) <= 120
    check_words(vector, error)


def check_words(vector: Vector, error: dict[str, Any]) -> None:
    """Check that an error repeats little of the input, and tells nothing of our insides."""
    sent = vector.wire.decode("latin-1")
    said = f"{error['message']}\n{error['param']}".encode().decode("latin-1")
    for start in range(len(said) - ECHO_BYTES):
        assert said[start : start + ECHO_BYTES + 1] not in sent
    assert len(said) < 1000
    assert not re.search(r"127\.0\.0\.1|Traceback|File \"|engine-key|key-plain|private|\.py\b", said)


def event_error(body: bytes) -> dict[str, Any]:
    """Return the error of a stream that broke, from its last event."""
    last = json.loads(body.strip().split(b"data: ")[-1])
    error: dict[str, Any] = last.get("error") or last["response"]["error"]
    return {"type": None, "param": None, **error}


@shared_loop
async def test_nothing_sent_forges_a_log_line(world: World) -> None:
    """After all of it each line of the log is one JSON object of ours, with no secret in it."""
    await asyncio.sleep(0.2)
    lines = world.log().splitlines()
    assert len(lines) > len(VECTORS)
    for line in lines:
        assert json.loads(line)["log"] in ("usage", "audit", "log")
    text = "\n".join(lines)
    assert not re.search("key-plain|engine-key|private|guess-1", text)
