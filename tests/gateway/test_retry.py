"""When a request is tried again, and when it must not be."""

import asyncio
from typing import Any

import pytest

from tests.gateway.conftest import World, Worlds, chat_body
from tests.gateway.upstream import (
    DONE,
    ROLE,
    STREAM_HEAD,
    Connection,
    Script,
    chunk,
    completion,
    data,
    failing,
    good_stream,
    respond,
    stream,
    usage_chunk,
)

HARMONY: dict[str, Any] = {
    "message": 'unexpected tokens remaining in message header: Some("SECRET")',
    "code": 500,
}
BUSY = {"message": "The server is busy", "type": "Service Unavailable", "code": 503}


def error(status: int, message: str = "Internal error", code: int | None = None) -> Script:
    """Return a script that answers with vLLM's error body."""
    return respond(
        status, {"error": {"message": message, "type": "x", "param": None, "code": code or status}}
    )


def text(status: int) -> Script:
    """Return a script that answers as HAProxy or Serve do."""
    return respond(status, "Internal Server Error", content_type="text/plain")


async def cut_body(connection: Connection) -> None:
    """Promise a body, and close before it has come."""
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
    connection.close()


TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}


def calling(name: str, arguments: str = "{}") -> dict[str, Any]:
    """Return a completion that is a call."""
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return completion(None, finish="tool_calls", tool_calls=[call])


def half_call() -> dict[str, Any]:
    """Return a completion whose call was broken off, as vLLM tells it: no token is named that ended it."""
    made = calling("f", '{"a')
    made["choices"][0]["stop_reason"] = None
    return made


RETRIED = [
    pytest.param(failing("reset"), "reset", id="connection reset"),
    pytest.param(failing("close"), "reset", id="connection closed without a byte"),
    pytest.param(cut_body, "cut", id="body cut short"),
    pytest.param(text(500), "proxy_error", id="HAProxy's 500 in plain text"),
    pytest.param(text(502), "unavailable", id="502 in plain text"),
    pytest.param(text(503), "unavailable", id="503 in plain text"),
    pytest.param(text(504), "unavailable", id="504 in plain text"),
    pytest.param(error(503, "busy"), "unavailable", id="vLLM's queue is full"),
    pytest.param(error(500, HARMONY["message"]), "harmony", id="Harmony fault"),
    pytest.param(error(400, "Unknown channel: x"), "harmony", id="Harmony fault dressed as 400"),
    pytest.param(respond(200, completion(None)), "harmony", id="empty answer"),
    pytest.param(respond(200, completion("a<|end|>")), "harmony", id="control token in the answer"),
    pytest.param(respond(200, completion("Hel", finish="abort")), "aborted", id="aborted answer"),
    pytest.param(respond(200, completion(None, finish="abort")), "aborted", id="aborted before a token"),
    pytest.param(respond(200, half_call()), "aborted", id="aborted in a call"),
    pytest.param(respond(200, calling("g")), "harmony", id="call of no tool"),
]


@pytest.mark.parametrize(("script", "reason"), RETRIED)
async def test_a_failure_before_the_first_byte_is_retried_once(
    world: World, script: Script, reason: str
) -> None:
    """The second attempt answers; the client sees nothing of the first."""
    world.upstream.then(script, respond(200, completion()))
    async with world.post(chat_body(**TOOLS)) as response:
        assert response.status == 200
        assert (await response.json())["choices"][0]["message"]["content"] == "Hello"
    line = await world.usage()
    assert (line["outcome"], line["attempts"], len(world.upstream.requests)) == ("completed", 2, 2)
    assert world.metric(f'gptoss_retries_total{{reason="{reason}"}}') == 1


async def test_the_second_attempt_goes_elsewhere(world: World) -> None:
    """It goes to the model's next pool, and the hint names the attempt and the replica to avoid."""
    world.upstream.then(text(503), respond(200, completion()))
    async with world.post() as response:
        assert response.status == 200
    first, second = world.upstream.requests
    assert (first.path, second.path) == ("/big/v1/chat/completions", "/big-b/v1/chat/completions")
    assert first.headers["x-route-hint"].endswith(";a=1")
    assert second.headers["x-route-hint"].endswith(";a=2;x=replica-1")
    assert first.headers["x-request-id"].removesuffix("-1") == second.headers["x-request-id"].removesuffix(
        "-2"
    )


FINAL = [
    pytest.param(text(500), 502, "upstream_failed", id="HAProxy's 500, twice"),
    pytest.param(text(503), 503, "server_is_overloaded", id="no replica, twice"),
    pytest.param(error(503, "busy"), 503, "server_is_overloaded", id="queue full, twice"),
    pytest.param(error(500, HARMONY["message"]), 502, "harmony_fault", id="Harmony fault, twice"),
    pytest.param(respond(200, completion(None)), 502, "harmony_fault", id="empty answer, twice"),
]


@pytest.mark.parametrize(("script", "status", "code"), FINAL)
async def test_two_failures_are_the_end(world: World, script: Script, status: int, code: str) -> None:
    """A second failure is told, in OpenAI's words and none of the engine's."""
    world.upstream.then(script)
    async with world.post() as response:
        body = await response.json()
    assert (response.status, body["error"]["code"], len(world.upstream.requests)) == (status, code, 2)
    assert "SECRET" not in str(body)


NOT_RETRIED = [
    pytest.param(error(500), 502, "upstream_failed", id="vLLM's own 500"),
    pytest.param(
        respond(401, {"error": "Unauthorized"}), 502, "upstream_failed", id="the engine key is wrong"
    ),
    pytest.param(
        respond(404, {"detail": "Not Found"}), 502, "upstream_failed", id="a route that is not there"
    ),
    pytest.param(text(404), 503, "server_is_overloaded", id="a pool that is not deployed"),
    pytest.param(error(400, "bad"), 400, None, id="a request that the engine refuses"),
    pytest.param(respond(200, "{garbage"), 502, "upstream_failed", id="a body that is not JSON"),
    pytest.param(respond(200, {"id": 1}), 502, "upstream_failed", id="a body that is no completion"),
]


@pytest.mark.parametrize(("script", "status", "code"), NOT_RETRIED)
async def test_failures_that_would_come_again_are_not_retried(
    world: World, script: Script, status: int, code: str | None
) -> None:
    """One attempt only."""
    world.upstream.then(script)
    async with world.post() as response:
        body = await response.json()
    assert (response.status, body["error"]["code"], len(world.upstream.requests)) == (status, code, 1)


FIRST_EVENTS = [
    pytest.param([data({"error": BUSY}), DONE], id="queue full as the first event"),
    pytest.param([ROLE, data({"error": HARMONY}), DONE], id="Harmony fault after the role"),
    pytest.param([ROLE, b": usage p=5 r=9 a=0\n\n"], id="cut while it reasons in hiding"),
    pytest.param([ROLE, chunk({}, finish="stop"), DONE], id="empty answer"),
    pytest.param([ROLE, usage_chunk(reasoning=0, answer=0), DONE], id="aborted before a token"),
    pytest.param([ROLE, chunk({}, finish="abort"), usage_chunk(), DONE], id="aborted in reasoning"),
]


@pytest.mark.parametrize("events", FIRST_EVENTS)
async def test_a_stream_that_fails_before_it_says_anything_is_retried(
    world: World, events: list[bytes]
) -> None:
    """The opening is held back, so that the client sees only the second attempt."""
    world.upstream.then(stream(*events, end=events[-1] == DONE), good_stream())
    async with world.post(chat_body(stream=True)) as response:
        body = await response.read()
    assert response.status == 200
    assert body.count(b'"role"') == 1
    assert body.endswith(DONE)
    assert (await world.usage())["attempts"] == 2


async def test_what_a_lost_attempt_generated_is_wasted(world: World) -> None:
    """Tokens of an attempt that was thrown away are counted apart and not charged."""
    world.upstream.then(stream(ROLE, b": usage p=5 r=9 a=0\n\n", end=False), good_stream())
    async with world.post(chat_body(stream=True)) as response:
        await response.read()
    line = await world.usage()
    assert line["tokens"]["wasted"] == 9
    assert line["settled"] == 15


async def test_what_an_aborted_attempt_generated_is_wasted(world: World) -> None:
    """A whole answer's tokens are told with it, so that they are counted though it is thrown away."""
    world.upstream.then(respond(200, completion("Hel", finish="abort")), respond(200, completion()))
    async with world.post() as response:
        await response.read()
    line = await world.usage()
    assert (line["outcome"], line["tokens"]["wasted"], line["settled"]) == ("completed", 5, 15)


@pytest.mark.parametrize("body", [
    completion(None), completion("", finish="tool_calls"), completion("a<|channel|>b"),
])  # fmt: skip
async def test_a_bad_answers_tokens_are_wasted_and_not_billed(world: World, body: dict[str, Any]) -> None:
    """Of two attempts the client pays for the good one; of two bad ones it pays nothing."""
    world.upstream.then(respond(200, body), respond(200, completion()), respond(200, body))
    for status, wasted, settled in ((200, 5, 15), (502, 10, 0)):
        async with world.post() as response:
            assert response.status == status
        line = await world.usage()
        assert (line["tokens"]["wasted"], line["settled"], line["attempts"]) == (wasted, settled, 2)
    assert world.ledger.settled == [15, 0]
    tokens = 'gptoss_tokens_total{effort="medium",kind="wasted",model="gpt-oss-120b",tenant="acme"}'
    assert world.metric(tokens) == 15


async def test_an_abort_is_no_sign_of_poison(world: World) -> None:
    """A rolling update can stop two replicas in turn; the requests they had are not refused for it."""
    world.upstream.then(*[respond(200, completion("Hel", finish="abort"))] * 2, respond(200, completion()))
    for status in (502, 200):
        async with world.post() as response:
            assert response.status == status
    assert world.metric('gptoss_retries_total{reason="aborted"}') == 1


async def test_a_call_cut_by_its_limit_says_so(world: World) -> None:
    """VLLM ends it as ``tool_calls``; OpenAI names the limit."""
    world.upstream.then(respond(200, half_call()))
    async with world.post(chat_body(max_completion_tokens=5, **TOOLS)) as response:
        assert (await response.json())["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("events", [[data({"error": BUSY}), DONE], [ROLE, data({"error": HARMONY}), DONE]])
async def test_a_first_event_that_is_an_error_keeps_its_status(world: World, events: list[bytes]) -> None:
    """A stream that fails twice before it says anything has a real status and a JSON body."""
    world.upstream.then(stream(*events))
    async with world.post(chat_body(stream=True)) as response:
        assert response.status in (502, 503)
        assert (await response.json())["error"]["type"] in ("server_error", "service_unavailable_error")


@pytest.mark.parametrize("events", [
    [], [data({"error": HARMONY}), DONE], [chunk({}, finish="abort"), usage_chunk(), DONE],
    [usage_chunk(), DONE],
])  # fmt: skip
async def test_nothing_is_retried_once_bytes_have_flowed(world: World, events: list[bytes]) -> None:
    """A stream that breaks after its first word ends with an error event, after one attempt."""
    moment = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.send(STREAM_HEAD)
        await connection.event(ROLE, chunk({"content": "Hel"}))
        await moment.wait()
        await connection.event(*events)
        connection.close()

    world.upstream.then(script)
    async with world.post(chat_body(stream=True)) as response:
        await response.content.readuntil(b"Hel")
        moment.set()
        body = await response.read()
    assert b'{"error":{' in body
    assert b"SECRET" not in body
    assert DONE not in body
    assert len(world.upstream.requests) == 1


async def test_an_engine_that_is_away_is_overloaded(worlds: Worlds) -> None:
    """While Serve refuses connections the gateway answers 503 itself, with a time to try again."""
    world = await worlds()
    await world.upstream.stop()
    async with world.post() as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "server_is_overloaded"
        assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("2", "2000")
    assert world.metric('gptoss_retries_total{reason="connect"}') == 1


async def test_harmony_faults_are_counted_by_kind(world: World) -> None:
    """Each attempt that broke the format counts."""
    world.upstream.then(respond(200, completion(None)), respond(200, completion("<|end|>")))
    async with world.post() as response:
        assert response.status == 502
    await world.usage()
    assert world.metric('gptoss_harmony_faults_total{kind="empty"}') == 1
    assert world.metric('gptoss_harmony_faults_total{kind="control_token"}') == 1


def _stream_settings(**seconds: Any) -> dict[str, Any]:
    return {"gateway": {"stream": seconds}}


async def _until(connection: Connection, moment: asyncio.Event, *events: bytes) -> None:
    await connection.send(STREAM_HEAD)
    await moment.wait()
    await connection.event(*events)


async def test_a_silent_stream_commits_and_is_kept_alive(worlds: Worlds) -> None:
    """After ``commit_after_s`` the client gets 200 and comments; the answer follows."""
    world, moment = await worlds(**_stream_settings(commit_after_s=0.05, keepalive_s=0.02)), asyncio.Event()

    async def slow(connection: Connection) -> None:
        await _until(connection, moment, ROLE, chunk({"content": "a"}), chunk({}, finish="stop"), DONE)
        await connection.send(b"0\r\n\r\n")

    world.upstream.then(slow)
    async with world.post(chat_body(stream=True)) as response:
        assert response.status == 200
        alive = [await response.content.readuntil(b"\n\n") for _ in range(3)]
        moment.set()
        rest = await response.read()
    assert alive == [b": keep-alive\n\n"] * 3
    assert rest.endswith(DONE)


async def test_a_replica_that_has_just_died_does_not_get_the_second_attempt(world: World) -> None:
    """For some milliseconds it looks alive, and nobody named it: what comes at once goes there again."""
    died_s: list[float] = []

    async def dying(connection: Connection) -> None:
        now_s = asyncio.get_running_loop().time()
        died_s.append(now_s)
        if now_s - died_s[0] < 0.05:
            connection.close()
        else:
            await respond(200, completion())(connection)

    world.upstream.then(dying)
    async with world.post(chat_body()) as response:
        assert response.status == 200
    assert len(died_s) == 2
