"""What is counted and written of every request, and what never is."""

import asyncio
import io
import json
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cluster.core.accounting import Outcome
from cluster.gateway.logs import LineWriter, Log, LogHandler, all_logging_to, describe, loop_failed
from cluster.gateway.telemetry import MAX_TENANTS, Telemetry
from cluster.settings import LoggingSettings
from tests.gateway import contract_document as contract
from tests.gateway.conftest import KEY, World, caller, chat_body, settings_document
from tests.gateway.upstream import (
    DONE,
    ROLE,
    chunk,
    completion,
    data,
    good_stream,
    respond,
    stream,
    usage_chunk,
)

LABELS = 'effort="low",model="gpt-oss-120b"'


async def test_a_request_is_counted_once(world: World) -> None:
    """One request, its tokens by kind, its times."""
    world.upstream.then(
        stream(ROLE, chunk({"content": "a"}), chunk({}, finish="stop"), usage_chunk(cached=4), DONE)
    )
    async with world.post(chat_body(stream=True, reasoning_effort="low")) as response:
        await response.read()
    await world.usage()
    assert world.metric(f'gptoss_requests_total{{{LABELS},outcome="completed",tenant="acme"}}') == 1
    counted = {
        kind: world.metric(
            f'gptoss_tokens_total{{effort="low",kind="{kind}",model="gpt-oss-120b",tenant="acme"}}'
        )
        for kind in ("prompt", "cached", "reasoning", "answer", "wasted")
    }
    assert counted == {"prompt": 10, "cached": 4, "reasoning": 3, "answer": 2, "wasted": 0}
    for name in ("time_to_first_token", "time_to_first_answer", "inter_token", "e2e"):
        assert world.metric(f"gptoss_{name}_seconds_count{{{LABELS}}}") == 1
    assert world.metric(f"gptoss_in_flight{{{LABELS}}}") == 0


@pytest.mark.parametrize(
    ("reasoning", "changes", "counted"),
    [
        pytest.param(64, {}, 1, id="used up"),
        pytest.param(63, {}, 0, id="not used up"),
        pytest.param(64, {"n": 2}, 0, id="several choices, of which the sum is told"),
        pytest.param(64, {"reasoning_effort": "low"}, 0, id="no budget"),
    ],
)
async def test_a_streams_cut_chain_of_thought_is_counted(
    world: World, reasoning: int, changes: dict[str, Any], counted: int
) -> None:
    """The head of a stream tells the budget alone; its usage, and the metric, tell that it was used up."""
    ends = [chunk({}, finish="stop", index=index) for index in range(changes.get("n", 1))]
    usage = usage_chunk(reasoning=reasoning)
    world.upstream.then(stream(ROLE, chunk({"content": "a"}), *ends, usage, DONE))
    async with world.post(chat_body(**{"stream": True, "reasoning_effort": "high", **changes})) as response:
        await response.read()
        budget = response.headers.get("x-reasoning-budget")
        assert "x-reasoning-truncated" not in response.headers
    line = await world.usage()
    assert line["outcome"] == "completed"
    assert str(line["reasoning_budget"]) == str(budget)
    assert world.metric('gptoss_reasoning_truncated_total{effort="high",model="gpt-oss-120b"}') == counted


async def test_the_usage_line_has_every_field(world: World) -> None:
    """One line of JSON per request, with the contract's fields and no others."""
    world.upstream.then(good_stream())
    async with world.post(chat_body(stream=True)) as response:
        await response.read()
        identity = response.headers["x-request-id"]
    await world.usage()
    lines = [json.loads(line) for line in world.log().splitlines()]
    assert [line.keys() for line in lines] == [{*contract.USAGE, "log"}]
    assert lines[0]["request_id"] == identity


@pytest.mark.parametrize("body", [None, {"model": "gpt-5", "messages": []}, {"x": 1}])
async def test_a_refused_request_has_a_line_too(world: World, body: Any) -> None:
    """Whatever the request, there is exactly one outcome."""
    async with world.post(body or chat_body(), key="wrong" if body is None else KEY) as response:
        assert response.status >= 400
    line = await world.usage()
    assert line["outcome"] in ("invalid", "unauthenticated")
    assert world.ended.empty()


async def test_a_failed_authentication_is_audited(world: World) -> None:
    """The audit line names the address and the result, never the key."""
    async with world.post(key="SENTINEL-KEY") as response:
        assert response.status == 401
    await world.usage()
    audit = [json.loads(line) for line in world.log().splitlines() if '"log":"audit"' in line]
    assert [(line["result"], line["address"]) for line in audit] == [("unauthenticated", "127.0.0.1")]


BROKEN = {"message": "could not decode header: SENTINEL-COT", "code": 500}


@pytest.mark.parametrize("script", [
    good_stream("SENTINEL-ANSWER"), respond(400, {"error": {"message": "SENTINEL-COT", "code": 400}}),
    respond(200, completion("SENTINEL-ANSWER<|end|>", reasoning="SENTINEL-COT")),
    respond(200, "SENTINEL-ANSWER"), respond(500, {"error": BROKEN}),
    stream(ROLE, chunk({"content": "SENTINEL-ANSWER"}), data({"error": BROKEN})),
    stream(b"data: SENTINEL-ANSWER\n\n"),
])  # fmt: skip
async def test_no_text_and_no_secret_is_ever_logged(
    world: World, script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompt, answer, chain of thought, keys and the client's words stay out, at every level of logging."""
    handler = LogHandler(Log(world.writer, LoggingSettings()))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    world.keys.callers["SENTINEL-KEY"] = caller()
    world.upstream.then(script)
    messages = [{"role": "user", "content": "SENTINEL-PROMPT"}]
    for streaming in (True, False):
        body = chat_body(
            messages=messages, stream=streaming, user="SENTINEL-USER", prompt_cache_key="SENTINEL-C"
        )
        async with world.post(body, key="SENTINEL-KEY", headers={"x-trace": "SENTINEL-HEADER"}) as response:
            await response.read()
        await world.usage()
    log = world.log()
    assert '"log":"usage"' in log
    assert "SENTINEL" not in log
    assert "engine-key" not in log


def test_an_exception_is_logged_without_its_words() -> None:
    """Types and places help; messages can repeat what a client sent."""
    lines = io.BytesIO()
    writer = LineWriter(lines)
    logger = logging.Logger("test")
    logger.addHandler(LogHandler(Log(writer, LoggingSettings())))
    try:
        try:
            raise ValueError("SENTINEL")
        except ValueError as error:
            raise RuntimeError("SENTINEL") from error
    except RuntimeError as error:
        logger.error("request failed", exc_info=error)
        assert describe(error)[-1] == "RuntimeError"
    writer.close()
    assert b"ValueError" in lines.getvalue()
    assert b"SENTINEL" not in lines.getvalue()


class _Stuck(io.BytesIO):
    """A stream that nobody reads at first."""

    stuck = True

    def write(self, data: Any) -> int:
        if self.stuck:
            raise BrokenPipeError
        return super().write(data)


def test_lines_that_cannot_be_written_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue and a closed output lose lines, raise nowhere, and the next line that is read says so."""
    registry, stream = CollectorRegistry(), _Stuck()
    writer = LineWriter(stream)
    log = Log(writer, LoggingSettings())
    log.watch_lost(_telemetry(registry, log).lines_lost)
    writer.write(b"a")
    writer._flush()  # what its thread does
    monkeypatch.setattr("cluster.gateway.logs.MAX_WAITING_LINES", 0)
    writer.write(b"b")
    stream.stuck = False
    writer.close()
    assert json.loads(stream.getvalue()) == {"log": "lost", "lines": 2}
    assert registry.get_sample_value("gptoss_log_lines_lost_total") == 2


def test_text_lines_are_one_line_each() -> None:
    """The form for people keeps values from forging lines, and terminals from obeying them."""
    lines = io.BytesIO()
    writer = LineWriter(lines)
    Log(writer, LoggingSettings(format="text")).record(
        "log", {"message": "a\nb\r\x1b[2J\u2028\ud800 é", "empty": None}
    )
    writer.close()
    assert lines.getvalue() == b"log message=a\\nb\\r\\x1b[2J\\u2028\\ud800 \xc3\xa9\n"


@pytest.mark.parametrize(
    "arguments", [("%d", "SENTINEL"), ("half \ud800 of a pair",)], ids=["args", "unicode"]
)
def test_a_message_that_cannot_be_made_fails_nobody(arguments: tuple[str, ...]) -> None:
    """A library that logs nonsense gets a line, and no exception."""
    lines = io.BytesIO()
    writer = LineWriter(lines)
    LogHandler(Log(writer, LoggingSettings())).handle(
        logging.LogRecord("library", logging.ERROR, "file.py", 7, arguments[0], arguments[1:], None)
    )
    writer.close()
    message = json.loads(lines.getvalue())["message"]
    assert message in ("file.py:7 logged a message that cannot be made", "half \\ud800 of a pair")


async def test_what_fails_in_the_event_loop_is_logged_without_its_words() -> None:
    """Asyncio's own message repeats the exception and the arguments of a callback."""
    lines = io.BytesIO()
    writer, loop = LineWriter(lines), asyncio.get_running_loop()
    loop.set_exception_handler(loop_failed)
    with all_logging_to(Log(writer, LoggingSettings()), LoggingSettings()):
        loop.call_soon(int, "SENTINEL")
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": "Task was destroyed but it is pending!"})
    writer.close()
    first, second = map(json.loads, lines.getvalue().splitlines())
    assert (first["exception"][-1], second["message"]) == (
        "ValueError",
        "Task was destroyed but it is pending!",
    )
    assert b"SENTINEL" not in lines.getvalue()


def test_tenants_beyond_the_bound_share_a_name() -> None:
    """However many tenants come, the series stay bounded; no tenant is taken for an unknown caller."""
    registry, writer = CollectorRegistry(), LineWriter(io.BytesIO())
    log = Log(writer, LoggingSettings())
    telemetry = _telemetry(registry, log)
    for name in ("none", "other", *(f"t{number}" for number in range(MAX_TENANTS + 50))):
        exchange = telemetry.open({"headers": []})
        exchange.caller, exchange.outcome = caller(tenant=name), Outcome.FORBIDDEN
        telemetry.close(exchange)
    writer.close()
    text = generate_latest(registry).decode()
    assert text.count("gptoss_requests_total{") == MAX_TENANTS + 1
    assert 'outcome="forbidden",tenant="other"} 52.0' in text


def _telemetry(registry: CollectorRegistry, log: Log) -> Telemetry:
    return Telemetry(registry, log, now=lambda: 0.0, wall=lambda: 0.0, address_of=lambda _scope: None)


def slo(world: World, effort: str) -> tuple[float, float]:
    """Return how many requests kept and missed their objectives."""
    kept, missed = (
        world.metric(f'gptoss_slo_requests_total{{effort="{effort}",model="gpt-oss-120b",result="{result}"}}')
        for result in ("kept", "missed")
    )
    return kept, missed


async def test_objectives_are_counted_by_effort(world: World) -> None:
    """A quick stream keeps them, one without an answer misses them, and a wrong request counts as neither."""
    world.upstream.then(good_stream(), respond(500, {}), respond(500, {}))
    for changes in ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}, {"max_tokens": -1}):
        async with world.post(chat_body(stream=True, **changes)) as response:
            await response.read()
        await world.usage()
    assert (slo(world, "low"), slo(world, "high"), slo(world, "medium")) == ((1, 0), (0, 1), (0, 0))


async def test_yielding_requests_have_no_objective(world: World) -> None:
    """A request of the flex tier waits for the others by agreement."""
    world.upstream.then(good_stream())
    async with world.post(chat_body(stream=True, service_tier="flex")) as response:
        await response.read()
    await world.usage()
    assert slo(world, "medium") == (0, 0)
    assert world.metric(f"gptoss_e2e_seconds_count{{{LABELS.replace('low', 'medium')}}}") == 1


async def test_an_objective_is_the_settings_own(worlds: Any) -> None:
    """A pace that no stream can hold is missed by every stream."""
    models = settings_document()["models"]
    models["gpt-oss-120b"]["efforts"]["low"]["slo"]["total_s"] = 1e-6
    world: World = await worlds(models=models)
    world.upstream.then(good_stream())
    async with world.post(chat_body(stream=True, reasoning_effort="low")) as response:
        await response.read()
    await world.usage()
    assert slo(world, "low") == (0, 1)
