"""Counting tokens where the engine yields them."""

import math
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core.engine import EngineLoad, StreamUsage
from cluster.core.lanes import WINDOW_S
from cluster.serving.harmony_tokens import (
    ANALYSIS,
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    MESSAGE,
    RECIPIENT,
    RETURN,
    START,
    ReasoningCounter,
    Thought,
    count_reasoning,
)
from cluster.serving.meter import (
    LATE_TOKENS,
    STALLED_S,
    EngineStalledError,
    Ledger,
    Meter,
    SchedulerObserver,
    current,
    metered,
)

FINAL, COMMENTARY, ASSISTANT, NAME, WORD = 17196, 12606, 173781, 44580, 77
THOUGHT = [CHANNEL, ANALYSIS, MESSAGE, WORD, WORD, WORD, END]
ANSWER = [START, ASSISTANT, CHANNEL, FINAL, MESSAGE, WORD, WORD, RETURN]


@pytest.mark.parametrize(
    ("token_ids", "reasoning"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param(THOUGHT + ANSWER, 3, id="thought, then answer"),
        pytest.param(THOUGHT[:-2], 2, id="cut inside the thought"),
        pytest.param(THOUGHT[:2], 0, id="cut inside the header"),
        pytest.param(ANSWER[2:], 0, id="answer only"),
        pytest.param(
            [CHANNEL, ANALYSIS, RECIPIENT, NAME, CONSTRAIN, MESSAGE, WORD, CALL],
            0,
            id="a call on the analysis channel is no reasoning",
        ),
        pytest.param(
            [*THOUGHT, START, ASSISTANT, RECIPIENT, NAME, CHANNEL, COMMENTARY, MESSAGE, WORD, CALL],
            3,
            id="recipient in the role part",
        ),
        pytest.param([*THOUGHT, START, ASSISTANT, *THOUGHT, *ANSWER], 6, id="two thoughts"),
        pytest.param(
            [CHANNEL, FINAL, MESSAGE, ANALYSIS, RECIPIENT, CHANNEL, RETURN], 0, id="words in a body"
        ),
        pytest.param([CHANNEL, ANALYSIS, MESSAGE, WORD, START, ASSISTANT], 1, id="no end before the next"),
    ],
)
def test_reasoning_is_the_body_of_analysis(token_ids: list[int], reasoning: int) -> None:
    """Markers, headers and calls are not reasoning; every token is one or the other."""
    assert count_reasoning(token_ids) == reasoning


def test_counting_in_portions_is_counting_at_once() -> None:
    """However the engine batches its output."""
    counter = ReasoningCounter()
    assert sum(counter.feed([token]) for token in THOUGHT + ANSWER) == 3
    assert (counter.reasoning, counter.answer, counter.total) == (3, 12, 15)


def test_the_length_of_the_thought_at_hand() -> None:
    """It is 0 where a thought opens, None outside of one, and begins anew with the next."""
    thinking, said = Thought(), [*THOUGHT, START, ASSISTANT, *THOUGHT, *ANSWER]
    lengths = [thinking.length(said[:count]) for count in range(len(said) + 1)]
    outside = [None, None, None]
    assert lengths == [*outside, 0, 1, 2, 3, None, None, *outside[1:], None, 0, 1, 2, 3, None] + [None] * len(
        ANSWER
    )


def test_a_token_that_is_not_known_yet_is_counted_once_it_is() -> None:
    """VLLM holds -1 in its place until then."""
    thinking, opened = Thought(), THOUGHT[:4]
    assert thinking.length([*opened, -1]) == thinking.length(opened) == 1
    assert thinking.length([*opened, END]) is None


def output(token_ids: list[int], index: int = 0) -> Any:
    """Return what vLLM yields: ids since the last output."""
    return SimpleNamespace(
        prompt_token_ids=[1] * 9, outputs=[SimpleNamespace(index=index, token_ids=token_ids)]
    )


async def test_outputs_are_counted_and_passed_on() -> None:
    """The wrapped generator yields what the engine's does, and the meter of the request at hand follows."""
    outputs = [output(THOUGHT), output(ANSWER), output(THOUGHT, index=1)]

    async def generate(prompt: str, *, request_id: str) -> AsyncGenerator[Any, None]:
        assert (prompt, request_id) == ("p", "1")
        for item in outputs:
            yield item

    meter = Meter(expected=100)
    token = current.set(meter)
    try:
        assert [item async for item in metered(generate)("p", request_id="1")] == outputs
    finally:
        current.reset(token)
    assert meter.usage == StreamUsage(prompt=9, reasoning=6, answer=16)


async def test_a_client_that_leaves_closes_the_engines_generator() -> None:
    """VLLM aborts a request when its generator is closed; ours must hand that on at once."""
    closed = []

    async def generate() -> AsyncGenerator[Any, None]:
        try:
            while True:
                yield output([WORD])
        finally:
            closed.append(True)

    stream = metered(generate)()
    await anext(stream)
    await stream.aclose()
    assert closed == [True]


async def test_a_request_without_a_meter_is_served_uncounted() -> None:
    """The engine is also asked from inside, where no request is at hand."""

    async def generate() -> AsyncGenerator[Any, None]:
        yield output([WORD])

    assert len([item async for item in metered(generate)()]) == 1


def test_what_remains_falls_as_tokens_come() -> None:
    """To a floor: a request that outlives its expectation still takes a slot."""
    ledger = Ledger(slots=4)
    meter = ledger.open(expected=500)
    meter.add(9, 0, [WORD] * 100)
    assert ledger.expected_tokens == 400
    meter.add(9, 0, [WORD] * 1000)
    assert ledger.expected_tokens == LATE_TOKENS
    ledger.close(meter)
    assert ledger.expected_tokens == 0


def test_load_joins_the_schedulers_view_and_ours() -> None:
    """What the scheduler has not seen waits; what has ended since its last step does not run."""
    ledger = Ledger(slots=4)
    observer = SchedulerObserver(ledger)
    meters = [ledger.open(1000) for _ in range(3)]
    observer.record(SimpleNamespace(num_running_reqs=2, kv_cache_usage=0.25), None, engine_idx=0)
    assert ledger.load == EngineLoad(running=2, waiting=1, kv_use=0.25, slots=4)
    for meter in meters:
        ledger.close(meter)
    assert ledger.load == EngineLoad(running=0, waiting=0, kv_use=0.25, slots=4)


def test_routing_stats_carry_their_time() -> None:
    """The router needs to know which of its picks they include."""
    ledger = Ledger(slots=4, clock=lambda: 12.5)
    ledger.open(1000)
    ledger.open(8000, "high")
    assert ledger.routing_stats() == {
        "t": 12.5,
        "running": 0,
        "waiting": 2,
        "slots": 4,
        "kv_use": 0.0,
        "expected_tokens": 9000,
        "by_effort": {"low": 0, "medium": 1, "high": 1},
        "demand": {"low": 0, "medium": 1000, "high": 8000},
    }


def test_demand_outlives_its_requests() -> None:
    """It is what came, not what runs; it fades with time."""
    now = [100.0]
    ledger = Ledger(slots=4, clock=lambda: now[0])
    ledger.close(ledger.open(400, "low"))
    now[0] += WINDOW_S
    report = ledger.routing_stats()
    assert report["by_effort"]["low"] == 0
    assert report["demand"]["low"] == pytest.approx(400 / math.e)


def test_scaling_stats_tell_what_runs_from_what_waits() -> None:
    """A request runs from its first token on; low effort that has none is what people wait for."""
    now = [100.0]
    ledger = Ledger(slots=4, clock=lambda: now[0])
    ledger.open(400, "low", queued_tokens=7000).add(9, 0, [WORD] * 100)
    now[0] += 1.5
    ledger.open(600, "low")
    now[0] += 0.5
    ledger.open(8000, "high")
    assert ledger.scaling_stats() == {
        "slots": 4,
        "running": 1,
        "running_tokens": 300,
        "waiting": 2,
        "waiting_tokens": 8600,
        "queued_tokens": 7000,
        "low_wait_s": 0.5,
    }


class Hours:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("running", "answered", "stalled"),
    [
        pytest.param(1, True, True, id="hangs in the middle of an answer"),
        pytest.param(0, False, True, id="never begins"),
        pytest.param(0, True, False, id="is done, and a slow client still reads"),
    ],
)
def test_an_engine_that_hangs_is_told_from_one_that_is_done(
    running: int, answered: bool, stalled: bool
) -> None:
    """Work and no step for two minutes: the replica is not well, though its process answers."""
    clock = Hours()
    ledger = Ledger(8, clock)
    meter = ledger.open(10)
    ledger.observe(running, 0.1)
    if answered:
        meter.add(5, 0, ANSWER)
    clock.now_s += STALLED_S - 1
    ledger.require_steps()
    clock.now_s += 2
    if stalled:
        with pytest.raises(EngineStalledError):
            ledger.require_steps()
    else:
        ledger.require_steps()


def test_an_engine_without_requests_or_with_a_late_step_is_well() -> None:
    """Idle for hours; and a request that waits long while others are worked on."""
    clock = Hours()
    ledger = Ledger(8, clock)
    clock.now_s += 10 * STALLED_S
    ledger.require_steps()
    meter = ledger.open(10)
    clock.now_s += 10 * STALLED_S
    ledger.observe(8, 0.5)
    ledger.require_steps()
    ledger.close(meter)
    clock.now_s += 10 * STALLED_S
    ledger.require_steps()
