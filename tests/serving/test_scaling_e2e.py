"""Real Ray Serve with simulated replicas: a burst adds some, they go again, and no stream is cut."""

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.core import hint
from cluster.core.effort import Effort
from cluster.core.engine import REPLICA_HEADER
from tests.serving.real_serve import POOL, Serve, question, send, started

pytestmark = pytest.mark.e2e

TOKEN_S = 0.1
ANSWER_TOKENS = 20
REASONING_TOKENS: dict[Effort, int] = {"low": 5, "medium": 60, "high": 1990}
SIM = {
    "slots": 8,
    "ttft_ms": 100,
    "inter_token_ms": 1000 * TOKEN_S,
    "inter_token_per_request_ms": 0,
    "answer_tokens": ANSWER_TOKENS,
    "reasoning_tokens": REASONING_TOKENS,
}
SCALING = {"slot_tokens": 50, "down_after_s": 8}
"""A slot's tokens in five seconds: about what a simulated replica takes to start."""
BURST = 24
LONG_S = 200.0
DECIDED_WITHIN_S = 5.0
REROUTED_S = 5.0
"""By then nothing new goes to a replica that is stopped."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """What became of one stream."""

    replica: str
    begun_s: float
    ended_s: float
    whole: bool
    """Whether it ended as a stream ends, and not merely ended."""


def stream(serve: Serve, effort: Effort, *, avoid: str = "") -> Streamed:
    """Ask for a stream, read it to its end and judge it."""
    tokens = ANSWER_TOKENS + REASONING_TOKENS[effort]
    told = hint.render(hint.RouteHint(effort, tokens, 20, avoid=avoid))
    begun_s = time.time()
    with closing(serve.connect(60)) as connection:
        path = f"/{POOL}/v1/chat/completions"
        answer = send(connection, path, question(effort, stream=True), x_route_hint=told)
        try:
            content = answer.read()
        except http.client.IncompleteRead as cut:
            content = cut.partial
    whole = (
        answer.status == 200 and content.endswith(b"data: [DONE]\n\n") and content.count(b"data: ") > tokens
    )
    return Streamed(str(answer.headers[REPLICA_HEADER]), begun_s, time.time(), whole)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a pool of one to three replicas."""
    bounds = {"min": 1, "max": 3}
    folder = tmp_path_factory.mktemp("serve")
    with started(folder, replicas=bounds, sim=SIM, scaling=SCALING) as serve:
        yield serve


def decisions(serve: Serve) -> list[tuple[float, int, int, str]]:
    """Return when the policy changed the number of replicas, from how many to how many, and why."""
    session = next(
        match[1] for line in serve.command_lines() if (match := re.search(r"--session-dir=(\S+)", line))
    )
    [log] = Path(session, "logs", "serve").glob("controller_[0-9]*.log")
    said = re.findall(r"^INFO (\S+ \S+) .*small: from (\d) to (\d) replicas: (\w+)", log.read_text(), re.M)
    local = datetime.now(UTC).astimezone().tzinfo
    return [
        (
            datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=local).timestamp(),
            int(before),
            int(after),
            why,
        )
        for when, before, after, why in said
    ]


def until(serve: Serve, replicas: int, within_s: float) -> list[tuple[float, int, int, str]]:
    """Wait until the last decision was for so many replicas, and return all of them."""
    deadline = time.monotonic() + within_s
    while not (made := decisions(serve)) or made[-1][2] != replicas:
        assert time.monotonic() < deadline, f"not {replicas} replicas in {within_s} s: {made}"
        time.sleep(0.2)
    return made


def until_others_answer(serve: Serve, first: str) -> list[str]:
    """Wait until two replicas beside the ``first`` give answers, and return their names."""
    told = hint.render(hint.RouteHint("medium", 1, 20, attempt=2, avoid=first))
    deadline, names = time.monotonic() + 60, set[str]()
    while len(names - {first}) < 2:
        assert time.monotonic() < deadline, f"only {names} answer"
        names.add(serve.chat(told, tokens=1))
    return sorted(names - {first})


def test_a_burst_adds_replicas_that_go_again_and_no_stream_is_cut(
    serve: Serve, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """One to three and back, with short streams at all times and a 200 s one on each when two are stopped."""
    over, shorts, first = threading.Event(), list[Streamed](), serve.chat()

    def keep_asking() -> None:
        while not over.is_set():
            shorts.append(stream(serve, "low"))

    with ThreadPoolExecutor(BURST + 8) as pool:
        asking, long = pool.submit(keep_asking), [pool.submit(stream, serve, "high")]
        try:
            time.sleep(2)  # some reports of a quiet pool
            assert decisions(serve) == []
            begun_s = time.time()
            burst = [pool.submit(stream, serve, "medium") for _ in range(BURST)]
            up = until(serve, 3, within_s=DECIDED_WITHIN_S + 5)
            others = until_others_answer(serve, first)
            full_s = time.time()
            # The first one is full: who avoids one of the others gets to the other.
            long += [pool.submit(stream, serve, "high", avoid=other) for other in others]
            down = until(serve, 1, within_s=90)
            assert not any(one.done() for one in long)
            ended = [one.result() for one in (*burst, *long)]
        finally:
            over.set()
        asking.result()

    for name, at_s in (("decided", up[-1][0]), ("full", full_s), ("fewer", down[-1][0])):
        record_testsuite_property(f"{name}_s", round(at_s - begun_s, 1))
    record_testsuite_property("streams", len(ended) + len(shorts))
    record_testsuite_property("decisions", [made[1:] for made in down])
    assert [one for one in (*ended, *shorts) if not one.whole] == []
    assert up[-1][0] - begun_s <= DECIDED_WITHIN_S
    assert [before < after for _, before, after, _ in down] == sorted(
        (before < after for _, before, after, _ in down), reverse=True
    )
    assert len({one.result().replica for one in long}) == 3
    assert len({short.replica for short in shorts if short.begun_s > down[-1][0] + REROUTED_S}) == 1
    assert min(one.result().ended_s - one.result().begun_s for one in long) >= LONG_S
