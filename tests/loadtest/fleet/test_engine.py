"""The simulated engine: published figures, and a replica whose time can be worked out by hand."""

import math
from dataclasses import replace

import pytest

from loadtest.fleet.engine import GPUS, Engine, engine
from loadtest.fleet.replica import Replica
from loadtest.fleet.workload import Job

PUBLISHED = [
    ("b200", 1024, 1024, {4: 3.8, 8: 4.8, 16: 6.1, 32: 8.2, 64: 10.7, 128: 14.3}),
    ("b200", 8192, 1024, {4: 4.1, 8: 5.2, 16: 6.9, 32: 9.9, 64: 14.6, 128: 21.9}),
    ("b200", 1024, 8192, {4: 3.8, 64: 10.0, 128: 12.8}),
    ("h200", 8192, 1024, {4: 7.2, 8: 10.5, 16: 16.1, 32: 25.1, 64: 42.1}),
    ("h200", 1024, 1024, {4: 6.4}),
]


@pytest.mark.parametrize(("gpu", "prompt", "output", "rows"), PUBLISHED, ids=lambda value: str(value)[:8])
def test_the_curves_are_the_published_ones(
    gpu: str, prompt: int, output: int, rows: dict[int, float]
) -> None:
    """InferenceMAX's mean time per output token is met within 10 %."""
    for batch, published_ms in rows.items():
        assert engine(gpu, 128).published_tpot_ms(batch, prompt, output) == pytest.approx(
            published_ms, rel=0.1
        )


def test_slots_and_memory_are_those_of_the_profiles() -> None:
    """An H100 holds a tenth of what an H200 does."""
    made = {gpu: engine(gpu) for gpu in GPUS}
    assert {gpu: each.slots for gpu, each in made.items()} == {"b200": 128, "h200": 64, "h100-80gb": 32}
    assert made["h100-80gb"].kv_tokens < made["h200"].kv_tokens / 5 < made["b200"].kv_tokens / 5
    assert engine("b200", 64).slots == 64


def job(number: int, *, output: int, prompt: int = 100, deadline_s: float = 10.0) -> Job:
    """Return a request that comes at once."""
    return Job(number, 0.0, "t", "low", prompt, output, deadline_s, expected=output)


ENGINE = Engine(
    step_ms=(10.0, 10.0, 20.0, 30.0), kv_ns=0.0, prefill_tokens_per_ms=1.0, slots=3, kv_tokens=10_000
)
"""Each request of a batch costs 10 ms a step, each token of a prompt 1 ms."""


def replica(made: Engine = ENGINE, slow: float = 1.0) -> Replica:
    """Return an idle replica whose queue is ordered by deadline."""
    return Replica("r", made, key=lambda each: each.deadline_s, slow=slow)


def run(one: Replica) -> None:
    """Run until it is idle."""
    while (at_s := one.next_event_s()) < math.inf:
        one.advance(at_s)


def test_a_request_alone_takes_its_prefill_and_its_steps() -> None:
    """100 tokens of prompt at 1 ms, and 10 steps after the first token at 10 ms."""
    alone, one = job(1, output=11), replica()
    one.put(alone, 0.0)
    run(one)
    assert alone.first_s == pytest.approx(0.1)
    assert alone.end_s == pytest.approx(0.2)
    assert alone.token_s == pytest.approx(0.01)


def test_a_slow_replica_takes_longer_for_everything() -> None:
    """Half the speed is twice the time."""
    alone, one = job(1, output=11), replica(slow=2.0)
    one.put(alone, 0.0)
    run(one)
    assert alone.end_s == pytest.approx(0.4)


def test_a_batch_shares_the_pace_and_speeds_up_when_one_ends() -> None:
    """Both are stopped by both prefills; then 10 steps at 20 ms, then 10 more at 10 ms."""
    short, long, one = job(1, output=11), job(2, output=21), replica()
    one.put(short, 0.0)
    one.put(long, 0.0)
    run(one)
    assert short.end_s == pytest.approx(0.2 + 0.2)
    assert long.end_s == pytest.approx(0.2 + 0.2 + 0.1)
    assert one.generated == pytest.approx(30)


def test_the_cache_slows_a_step_as_it_fills() -> None:
    """Steps from 101 to 110 tokens in the cache, 1 ms for each: 10 steps take 100 + 1,060 ms."""
    alone, one = job(1, output=11), replica(replace(ENGINE, kv_ns=1e6))
    one.put(alone, 0.0)
    run(one)
    assert alone.end_s == pytest.approx(0.1 + 0.1 + 1.06)


def test_the_earliest_deadline_takes_the_next_slot() -> None:
    """A full batch lets in who is due first, not who came first."""
    one = replica(replace(ENGINE, slots=1))
    first, later, sooner = job(1, output=2), job(2, output=2, deadline_s=9), job(3, output=2, deadline_s=1)
    for each in (first, later, sooner):
        one.put(each, 0.0)
    assert (one.load.running, one.load.waiting) == (1, 2)
    run(one)
    assert first.end_s is not None and sooner.start_s == first.end_s
    assert later.start_s == sooner.end_s


def test_a_full_cache_puts_the_last_due_back_into_the_queue() -> None:
    """It is prefilled again with what it had generated, and both end."""
    one = replica(replace(ENGINE, kv_tokens=300))
    urgent, patient = job(1, output=80, deadline_s=1), job(2, output=80, deadline_s=9)
    one.put(urgent, 0.0)
    one.put(patient, 0.0)
    for _ in range(2):
        one.advance(one.next_event_s())
    assert 0 < patient.generated < 80
    assert urgent.end_s is not None and patient.end_s is None
    run(one)
    assert patient.end_s == pytest.approx(urgent.end_s + (100 + patient.generated + 1) / 1e3 + 0.3, abs=0.02)
    assert one.load.kv_use == pytest.approx(0, abs=1e-6)


def test_a_dead_replica_gives_back_what_it_held() -> None:
    """Running and waiting alike; nothing happens on it any more."""
    one = replica(replace(ENGINE, slots=1))
    jobs = [job(number, output=5) for number in range(3)]
    for each in jobs:
        one.put(each, 0.0)
    assert one.fail() == jobs
    assert one.next_event_s() == math.inf
