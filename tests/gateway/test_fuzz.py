"""Thousands of bodies that nobody would write: each is answered, and none is a fault of the gateway's."""

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.serving.sim import create_app
from cluster.settings import RateLimits, SimulatedEngine
from tests.core.requests import CALL, CHAT_TOOL, PARAMETERS, RESPONSE_TOOL, USER
from tests.gateway.conftest import KEY, World, behind_prefix, caller, running, serving
from tests.gateway.raw import RawClient, connect

MODEL = "gpt-oss-120b"
BODIES = 3000
FAST = SimulatedEngine(
    ttft_ms=0,
    inter_token_ms=0,
    inter_token_per_request_ms=0,
    reasoning_tokens={"low": 1, "medium": 1, "high": 1},
    answer_tokens=2,
)
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {**USER, "name": "ann"},
        {"role": "assistant", "content": None, "reasoning": "So.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": CALL["id"], "content": "7"},
    ],
    "tools": [CHAT_TOOL],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 1,
    "n": 1,
    "seed": 7,
    "reasoning_effort": "low",
    "metadata": {"a": "b"},
}
RESPONSE: dict[str, Any] = {
    "model": "gpt-oss-120b",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text", "text": "So."}]},
        {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "7"},
    ],
    "instructions": "Be brief.",
    "tools": [RESPONSE_TOOL],
    "text": {"format": {"type": "json_schema", "name": "a", "schema": PARAMETERS}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "max_output_tokens": 5,
    "metadata": {"a": "b"},
}  # fmt: skip
PATHS = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSE}
HOSTILE: list[Any] = [
    None, True, 0, -1, 2**31, 2**63, 2**70, 0.5, 1e308, "", "x", "\0", "\n", "é\u202e", "<|end|>", "../x",
    "auto", "high", "function", "json_schema", "x" * 5000, [], {}, [None], [[]], {"": None}, [0] * 200,
    {"type": "object"}, {"$ref": "#"}, {"pattern": "("},
]  # fmt: skip
NOISE = [b"", b"\0", b"\xff", b'"', b"{", b"]", b",", b"\\", b"1e999", b'"model":1,', b"\xed\xa0\x80"]
KEYS = ["type", "role", "content", "name", "$ref", "pattern", "enum", "n", "stream", "priority", "", "\0"]


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return every container in a document with each of its keys or indexes."""
    inside = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
    found = [(node, key) for key in inside]
    return found + [place for key in inside for place in places(node[key])]


def mutate(document: Any, rng: random.Random) -> None:
    """Change one place of a document."""
    node, key = rng.choice(places(document) or [(document, None)])
    act = rng.randrange(5)
    if key is None or act == 0:
        node = document
        node[rng.choice(KEYS)] = rng.choice(HOSTILE)
    elif act == 1:
        del node[key]
    elif act == 2 and isinstance(node, dict):
        node[rng.choice(KEYS)] = node.pop(key)
    elif act == 3 and isinstance(node, list):
        node += [node[key]] * rng.choice((1, 130))
    else:
        node[key] = json.loads(json.dumps(rng.choice(HOSTILE)))


def broken(body: bytes, rng: random.Random) -> bytes:
    """Change a body's bytes in one place."""
    at = rng.randrange(len(body) + 1)
    noise = rng.choice(
        [b"", b"\0", b"\xff", b'"', b"{", b"]", b",", b"\\", b"1e999", b'"model":1,', b"\xed\xa0\x80"]
    )
    return body[:at] + noise + body[at + rng.randrange(4) :]


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a path and a body: a good one, changed in a few places."""
    rng = draw(st.randoms(use_true_random=True))
    path = rng.choice(list(PATHS))
    document = json.loads(json.dumps(PATHS[path]))
    for _ in range(rng.randrange(4)):
        mutate(document, rng)
    body = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    for _ in range(rng.choice((0, 0, 1, 3))):
        body = broken(body, rng)
    return path, body


class Sender:
    """Sends bodies over one connection, to a gateway in front of the simulated engine."""

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        self.runner, self.world = runner, world
        self.seen: dict[int, int] = {}
        self._client: RawClient | None = None

    def status(self, path: str, body: bytes) -> int:
        """Return the status that a body gets."""
        status = self.runner.run(self._send(path, body))
        self.seen[status] = self.seen.get(status, 0) + 1
        return status

    async def _send(self, path: str, body: bytes) -> int:
        client = self._client = self._client or await connect(self.world.url)
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        await client.send(head.encode() + body)
        answer = await client.answer()
        if answer.headers.get("connection") == "close":
            await self.close()
        if answer.status >= 400:
            assert answer.error["message"]
        return answer.status

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()
        self._client = None


@pytest.fixture
def sender() -> Iterator[Sender]:
    """Return a sender with a gateway of its own."""
    with asyncio.Runner() as runner:
        engine = create_app(FAST, model=MODEL, replica="sim-1", engine_key="engine-key")
        serve = serving(behind_prefix(engine))
        url = runner.run(serve.__aenter__())
        pools = {name: {"model": MODEL, "profile": "x"} for name in ("big", "big-b")}
        pools["small"] = {"model": "gpt-oss-20b", "profile": "x"}
        gateway = running(serving={"url": url, "engine_key_file": "/k", "pools": pools})
        world = runner.run(gateway.__aenter__())
        world.keys.callers[KEY] = caller(limits=(RateLimits(),))
        made = Sender(runner, world)
        yield made
        runner.run(made.close())
        runner.run(gateway.__aexit__(None, None, None))
        runner.run(serve.__aexit__(None, None, None))


def test_no_body_is_a_fault_of_ours(sender: Sender) -> None:
    """Mutated and broken bodies get 200 or a 4xx; good ones are among them, and are served to the end."""

    @settings(
        max_examples=BODIES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(requests())
    def send(drawn: tuple[str, bytes]) -> None:
        assert sender.status(*drawn) < 500

    send()
    for path, document in PATHS.items():
        assert sender.status(path, json.dumps(document).encode()) == 200
    assert sum(sender.seen.values()) >= BODIES
    assert sender.seen[200] > BODIES / 20
    assert sender.seen[400] > BODIES / 4
