"""What a replica knows of its running requests: tokens so far and load, counted where the engine yields them.

vLLM shows neither while it hides reasoning, so its ``generate`` is wrapped. A request finds its meter in a
context variable, which vLLM's tasks inherit from the middleware that opened it.
"""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

from cluster.core.effort import Effort
from cluster.core.engine import EngineLoad, StreamUsage
from cluster.core.lanes import Demand
from cluster.core.scaling import Queued
from cluster.serving import report
from cluster.serving.harmony_tokens import ReasoningCounter

UNHINTED_TOKENS = 1000
"""Expected output of a request without a hint: between the priors of low and medium effort."""
UNHINTED_EFFORT: Effort = "medium"
"""Effort that such a request counts as: the one between the others."""
LATE_TOKENS = 128
"""Still expected of a request that has outlived its expectation."""


STALLED_S = 120.0
"""Seconds without a step of an engine that has requests: far more than any step takes, or a pause of one."""


class EngineStalledError(RuntimeError):
    """The engine hangs, though its process answers."""


class Meter:
    """Tokens of one request; it may have several answers (``n``)."""

    __slots__ = ("_answers", "effort", "expected", "prompt", "since_s")

    def __init__(self, expected: int, effort: Effort = UNHINTED_EFFORT, since_s: float = 0.0) -> None:
        """Open a meter for a request that should generate ``expected`` tokens and came at ``since_s``."""
        self.expected = expected
        self.effort = effort
        self.since_s = since_s
        self.prompt = 0
        self._answers: dict[int, ReasoningCounter] = {}

    def add(self, prompt_tokens: int, answer: int, token_ids: list[int]) -> None:
        """Count newly generated ids of the answer with index ``answer``."""
        self.prompt = prompt_tokens
        self._answers.setdefault(answer, ReasoningCounter()).feed(token_ids)

    @property
    def usage(self) -> StreamUsage:
        """Tokens so far."""
        answers = self._answers.values()
        return StreamUsage(
            prompt=self.prompt,
            reasoning=sum(answer.reasoning for answer in answers),
            answer=sum(answer.answer for answer in answers),
        )

    @property
    def started(self) -> bool:
        """Whether it has its first token."""
        return bool(self._answers)

    @property
    def remaining(self) -> int:
        """Output tokens still expected."""
        done = sum(answer.total for answer in self._answers.values())
        return max(self.expected - done, LATE_TOKENS)


current: ContextVar[Meter | None] = ContextVar("current", default=None)
"""The meter of the request at hand."""


class Ledger:
    """The open meters of a replica, and its engine's own view of its load."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.time) -> None:
        """Start empty; ``slots`` is the engine's largest batch, ``clock`` gives epoch seconds."""
        self._slots = slots
        self._clock = clock
        self._demand = Demand()
        self._queued = Queued()
        self._open: set[Meter] = set()
        self._running = 0
        self._kv_use = 0.0
        self._stepped_s = 0.0

    def open(self, expected: int, effort: Effort = UNHINTED_EFFORT, *, queued_tokens: int = 0) -> Meter:
        """Open a meter; ``queued_tokens`` is what its gateway says of the gateway's own queue."""
        now_s = self._clock()
        meter = Meter(expected, effort, now_s)
        self._open.add(meter)
        self._demand = self._demand.plus(effort, expected, now_s)
        self._queued = self._queued.plus(queued_tokens, now_s)
        return meter

    def close(self, meter: Meter) -> None:
        """Close a meter; its request has ended."""
        self._open.discard(meter)

    def observe(self, running: int, kv_use: float) -> None:
        """Take the scheduler's figures of its last step."""
        self._running, self._kv_use = running, kv_use
        self._stepped_s = self._clock()

    def require_steps(self) -> None:
        """Raise `EngineStalledError` when the engine has work and has done nothing of it for `STALLED_S`.

        A request whose answer its client is slow to take is no work: the engine is done with it.
        """
        since_s = self._clock() - STALLED_S
        if self._stepped_s > since_s or not self._open:
            return
        if self._running or any(not meter.started and meter.since_s <= since_s for meter in self._open):
            raise EngineStalledError(f"the engine has work, and has made no step for {STALLED_S:.0f} s")

    @property
    def load(self) -> EngineLoad:
        """Load now. Requests that the scheduler has not yet seen count as waiting."""
        running = min(self._running, len(self._open))
        return EngineLoad(running, len(self._open) - running, self._kv_use, self._slots)

    @property
    def expected_tokens(self) -> int:
        """Output tokens that the open requests still have to generate, as expected."""
        return sum(meter.remaining for meter in self._open)

    def routing_stats(self) -> dict[str, Any]:
        """Return what the routers read."""
        return report.write(
            self._clock(),
            self.load,
            self.expected_tokens,
            [meter.effort for meter in self._open],
            self._demand,
        )

    def scaling_stats(self) -> dict[str, float]:
        """Return what the autoscaler reads."""
        now_s = self._clock()
        requests = (
            report.OpenRequest(meter.effort, meter.remaining, meter.started, now_s - meter.since_s)
            for meter in self._open
        )
        return report.write_scaling(self._slots, requests, self._queued.at(now_s))


class SchedulerObserver:
    """One of vLLM's stat loggers, as far as it is called: passes each step's figures to the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        """Report to ``ledger``."""
        self._ledger = ledger

    def record(self, scheduler_stats: Any, iteration_stats: Any, **_: Any) -> None:
        """Take one step's statistics."""
        del iteration_stats
        if scheduler_stats is not None:
            self._ledger.observe(scheduler_stats.num_running_reqs, scheduler_stats.kv_cache_usage)

    def log(self) -> None:
        """Write nothing."""

    def log_engine_initialized(self) -> None:
        """Write nothing."""

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        """Ignore sleep, which is not used."""


Generate = Callable[..., AsyncGenerator[Any, None]]


def metered(generate: Generate) -> Generate:
    """Wrap ``EngineClient.generate`` so that every output is counted in the request's meter."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        meter = current.get()
        async with aclosing(generate(*args, **kwargs)) as outputs:
            async for output in outputs:
                if meter is not None:
                    for answer in output.outputs:
                        meter.add(len(output.prompt_token_ids or ()), answer.index, answer.token_ids)
                yield output

    return wrapper
