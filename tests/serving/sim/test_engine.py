"""Slots, queue and pace, all in virtual time."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from cluster.core import hint
from cluster.core.engine import LOAD_HEADER, parse_load, parse_usage
from cluster.serving.sim import SimulatedApp
from tests.serving.sim.virtual import (
    CHAT,
    RESPONSES,
    Exchange,
    call,
    chat_body,
    responses_body,
    run,
    simulated,
    start,
)


def test_the_first_event_comes_after_the_configured_time() -> None:
    """Headers at once, the role chunk at the time to first token."""
    exchange = call(simulated(ttft_ms=250), CHAT, chat_body(stream=True))
    assert exchange.chunks[0][0] == pytest.approx(0.25)


def _gaps(exchange: Exchange) -> list[float]:
    times = [at for at, data in exchange.chunks if b'"reasoning":' in data]
    return [round(b - a, 6) for a, b in pairwise(times)]


def test_tokens_come_at_the_inter_token_time() -> None:
    """One request alone has the base pace."""
    assert set(_gaps(call(simulated(inter_token_ms=20), CHAT, chat_body(stream=True)))) == {0.02}


def test_a_larger_batch_slows_every_token() -> None:
    """Four requests at once each add the configured time for the three others."""
    app = simulated(inter_token_ms=20, inter_token_per_request_ms=5)

    async def main() -> list[Exchange]:
        running = [start(app, CHAT, chat_body("the same", stream=True)) for _ in range(4)]
        return [await exchange.wait() for exchange in running]

    assert all(set(_gaps(exchange)) == {0.035} for exchange in run(main()))


def _order(app: SimulatedApp, waiting: list[dict[str, str]], body: dict[str, Any] | None = None) -> list[int]:
    """Start one request, queue the others behind it, and return the order in which those started."""

    async def main() -> list[int]:
        first = start(app, CHAT, chat_body(stream=True))
        await asyncio.sleep(0)
        queued = [start(app, CHAT, body or chat_body(stream=True), headers=headers) for headers in waiting]
        for exchange in (first, *queued):
            await exchange.wait()
        return sorted(range(len(queued)), key=lambda index: queued[index].chunks[0][0])

    return run(main())


def test_the_lowest_priority_value_starts_first() -> None:
    """With one slot the queue is ordered by the header, deadlines in milliseconds included."""
    headers = [{"x-vllm-priority": str(value)} for value in (5000, -2, 1_700_000_000_000, 0)]
    assert _order(simulated(slots=1), headers) == [1, 3, 0, 2]


@pytest.mark.parametrize("classes", [False, True], ids=["deadlines", "classes"])
def test_a_late_deadline_is_one_day_the_earliest(*, classes: bool) -> None:
    """More of what is urgent than can be served delays it by so much; as a fixed class it would be last."""
    app = simulated(slots=1, ttft_ms=500, inter_token_ms=1)
    body = chat_body(stream=True, max_completion_tokens=20)

    async def main() -> float:
        urgent, now_ms = [], 0
        late = None
        for _ in range(100):
            due_ms = 0 if classes else now_ms + 1000
            urgent.append(start(app, CHAT, body, headers={"x-vllm-priority": str(due_ms)}))
            late = late or start(app, CHAT, body, headers={"x-vllm-priority": "1" if classes else "8000"})
            await asyncio.sleep(0.4)
            now_ms += 400
        assert late is not None
        for exchange in (late, *urgent):
            await exchange.wait()
        return late.chunks[0][0]

    first_s = run(main())
    assert (first_s > 45) if classes else (7 < first_s < 12)


def test_equal_priorities_are_first_come_first_served() -> None:
    """Without priorities, and with a header that is no number, arrival decides."""
    assert _order(simulated(slots=1), [{}, {"x-vllm-priority": "soon"}, {}]) == [0, 1, 2]


def test_the_bodys_priority_counts_where_no_header_does() -> None:
    """The header overrides the body, the body the default."""
    order = _order(simulated(slots=1), [{}, {"x-vllm-priority": "1"}, {}], chat_body(stream=True, priority=7))
    assert order == [1, 0, 2]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("path", "make"), [(CHAT, chat_body), (RESPONSES, responses_body)])
def test_a_full_queue_is_vllms_503(path: str, make: Any, stream: bool) -> None:
    """Measured on vLLM: a queue that is full on arrival refuses streams by status too."""

    async def main() -> tuple[Exchange, Exchange]:
        app = simulated(slots=1, max_waiting=0)
        first = start(app, CHAT, chat_body())
        await asyncio.sleep(0)
        refused = await start(app, path, make(stream=stream)).wait()
        return await first.wait(), refused

    first, refused = run(main())
    assert first.status == 200
    assert (refused.status, refused.json["error"]["type"]) == (503, "Service Unavailable")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_frees_its_slot_at_once(stream: bool) -> None:
    """The next in the queue starts in the same instant; nothing stays expected."""
    app = simulated(slots=1, ttft_ms=1000)

    async def main() -> float:
        first = start(app, CHAT, chat_body(stream=stream))
        second = start(app, CHAT, chat_body(stream=True))
        await asyncio.sleep(0.5)
        first.leave()
        await first.wait()
        await second.wait()
        return second.chunks[0][0]

    assert run(main()) == pytest.approx(1.5)
    assert (app.load.running, app.load.waiting, app.expected_tokens) == (0, 0, 0)


def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    """A waiting request that is gone neither runs nor counts."""
    app = simulated(slots=1)

    async def main() -> tuple[int, Exchange]:
        first = start(app, CHAT, chat_body())
        second = start(app, CHAT, chat_body())
        await asyncio.sleep(0.001)
        second.leave()
        await second.wait()
        waiting = app.load.waiting
        await first.wait()
        return waiting, second

    waiting, second = run(main())
    assert (waiting, second.chunks, app.load.running) == (0, [], 0)


def test_a_slot_granted_to_a_client_that_just_left_is_passed_on() -> None:
    """Leaving in the very turn in which the slot comes does not lose the slot."""
    app = simulated(slots=1)

    async def main() -> Exchange:
        first = start(app, CHAT, chat_body())
        second = start(app, CHAT, chat_body())
        third = start(app, CHAT, chat_body())
        await asyncio.sleep(0.001)
        first.leave()
        second.leave()
        await first.wait()
        await second.wait()
        return await third.wait()

    assert run(main()).status == 200
    assert app.load.running == 0


def test_usage_comments_come_every_two_seconds() -> None:
    """Hidden reasoning too keeps the connection alive, and the counts grow to the final ones."""
    app = simulated(inter_token_ms=300, ttft_ms=5000, reasoning_tokens={"low": 50, "medium": 60, "high": 70})
    exchange = call(app, CHAT, chat_body(stream=True, include_reasoning=False))
    comments = [(at, parse_usage(data)) for at, data in exchange.chunks if data.startswith(b":")]
    times = [5.0, *(at for at, _ in comments), exchange.chunks[-1][0]]
    assert all(b - a <= 2.000001 for a, b in pairwise(times))
    counts = [usage.reasoning for _, usage in comments if usage]
    assert len(counts) == len(comments)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert all(usage and usage.prompt > 0 for _, usage in comments)


def test_a_token_slower_than_two_seconds_still_leaves_no_gap() -> None:
    """Between two tokens five seconds apart there are two comments."""
    app = simulated(inter_token_ms=5000, answer_tokens=1, reasoning_tokens={"low": 1, "medium": 1, "high": 1})
    exchange = call(app, CHAT, chat_body(stream=True))
    times = [at for at, _ in exchange.chunks]
    assert all(b - a <= 2.000001 for a, b in pairwise(times))


def test_a_quick_stream_has_no_comment() -> None:
    """An answer of under two seconds needs none."""
    assert b": usage" not in call(simulated(), CHAT, chat_body(stream=True)).body


def test_expected_tokens_fall_as_tokens_come() -> None:
    """What has been generated is expected no more, and an answer beyond its expectation counts as nothing."""
    app = simulated(ttft_ms=0, inter_token_ms=10)

    async def main() -> list[int]:
        told = hint.render(hint.RouteHint("low", expected_output_tokens=20, prompt_tokens=10))
        exchange = start(app, CHAT, chat_body(), headers={hint.HEADER: told})
        seen = []
        for _ in range(3):
            await asyncio.sleep(0.095)
            seen.append(app.expected_tokens)
        await exchange.wait()
        return seen

    assert run(main()) == [10, 1, 0]


def test_load_and_expectation_follow_the_requests() -> None:
    """Running and waiting are live, and the expected tokens are the route hint's where there is one."""
    app = simulated(slots=1, answer_tokens=10, reasoning_tokens={"low": 5, "medium": 6, "high": 7})
    told = hint.render(hint.RouteHint("low", expected_output_tokens=400, prompt_tokens=10, queued_tokens=90))

    async def main() -> tuple[Any, dict[str, Any], dict[str, float], Exchange]:
        first = start(app, CHAT, chat_body(stream=True), headers={hint.HEADER: told})
        second = start(app, CHAT, chat_body(reasoning_effort="high"))
        await asyncio.sleep(0.001)
        seen = (app.load, app.routing_stats, app.scaling_stats)
        await first.wait()
        return *seen, await second.wait()

    load, stats, scaling, second = run(main())
    assert (load.running, load.waiting, load.kv_use, stats["expected_tokens"]) == (1, 1, 1.0, 400 + 17)
    assert stats["by_effort"] == {"low": 1, "medium": 0, "high": 1}
    assert (scaling["waiting"], scaling["waiting_tokens"], scaling["queued_tokens"]) == (2, 417, 90)
    assert stats["demand"] == pytest.approx({"low": 400, "medium": 0, "high": 17}, rel=0.01)
    header = parse_load(second.headers[LOAD_HEADER])
    assert header is not None
    assert header.slots == 1
    assert app.expected_tokens == 0
