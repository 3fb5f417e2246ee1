"""The engine behind the routes: slots, pace and faults, one token at a time."""

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from cluster.core.effort import Effort
from cluster.core.engine import USAGE_COMMENT_EVERY_S, EngineLoad, render_usage
from cluster.core.lanes import Demand
from cluster.core.scaling import Queued
from cluster.serving import report
from cluster.serving.sim import faults
from cluster.serving.sim.clock import Clock
from cluster.serving.sim.errors import busy, internal
from cluster.serving.sim.faults import Order
from cluster.serving.sim.job import Job
from cluster.serving.sim.scheduler import Scheduler
from cluster.serving.sim.text import Generation
from cluster.serving.sim.wire import Envelope, Stream, Tally
from cluster.settings import SimulatedEngine

Write = Callable[[bytes], Awaitable[None]]


class Finished(Exception):  # noqa: N818  not an error to report either
    """The answer ends here, though it is not whole."""


class Broken(Exception):  # noqa: N818  not an error to report: the connection just ends
    """The answer ends here, as if the engine had died."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One request under way."""

    job: Job
    generations: tuple[Generation, ...]
    tally: Tally
    envelope: Envelope
    stream: Stream | None
    """None when the answer is sent whole."""
    order: Order | None
    """The fault that strikes it."""
    expected_tokens: int
    """Output that was expected of the request when it came."""
    queued_tokens: int
    """Tokens that waited at its gateway then."""

    @property
    def remaining_tokens(self) -> int:
        """Output still expected."""
        return max(0, self.expected_tokens - self.tally.total)

    def has(self, fault: faults.Fault) -> bool:
        """Whether this fault strikes it."""
        return self.order is not None and self.order.fault == fault


class Engine:
    """Runs requests in its slots, all tokens at the pace that the running batch allows."""

    def __init__(self, settings: SimulatedEngine, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._scheduler = Scheduler(slots=settings.slots, max_waiting=settings.max_waiting)
        self._open: dict[Run, float] = {}
        """The requests here, and when each came."""
        self.demand = Demand()
        """What came here of late."""
        self._queued = Queued()

    @property
    def efforts(self) -> list[Effort]:
        """The efforts of the requests here, running and waiting."""
        return [run.job.effort for run in self._open]

    @property
    def load(self) -> EngineLoad:
        """The load now; the simulated KV cache fills with the slots."""
        running, slots = self._scheduler.running, self._scheduler.slots
        return EngineLoad(running, self._scheduler.waiting, running / slots, slots)

    @property
    def expected_tokens(self) -> int:
        """Output tokens that running and waiting requests are expected to need still."""
        return sum(run.remaining_tokens for run in self._open)

    @property
    def scaling_stats(self) -> dict[str, float]:
        """What the engine tells the autoscaler."""
        now_s = self._clock.epoch()
        requests = (
            report.OpenRequest(run.job.effort, run.remaining_tokens, run.tally.total > 0, now_s - since_s)
            for run, since_s in self._open.items()
        )
        return report.write_scaling(self._scheduler.slots, requests, self._queued.at(now_s))

    def check_room(self) -> None:
        """Raise `EngineError` 503 when the queue is full, before anything of the answer is sent."""
        self._scheduler.check_room()

    async def run(self, run: Run, write: Write) -> None:
        """Generate all tokens of ``run``, writing events as they fall due.

        Raises `EngineError` when the queue is full or a fault says so, `Broken` when the connection is to end
        without another byte, and `Finished` when the answer is to. Cancelling frees the slot at once.
        """
        if run.has("busy"):
            raise busy()
        now_s = self._clock.epoch()
        self._open[run] = now_s
        self.demand = self.demand.plus(run.job.effort, run.expected_tokens, now_s)
        self._queued = self._queued.plus(run.queued_tokens, now_s)
        try:
            async with self._scheduler.slot(run.job.priority):
                await self._generate(run, write)
        finally:
            del self._open[run]

    async def _generate(self, run: Run, write: Write) -> None:
        if run.has("hang"):
            await anyio.sleep_forever()
        due = self._clock.monotonic() + self._settings.ttft_ms / 1000
        comment_due = due + USAGE_COMMENT_EVERY_S
        await self._sleep_until(due)
        if run.stream is not None:
            await write(run.stream.started())
        order = run.order
        strikes_at = None if order is None else faults.index(run.generations[0], order.place)
        for step in range(max(len(generation.tokens) for generation in run.generations)):
            due += self._interval_s() if step else 0
            while comment_due <= due:
                await self._comment(run, comment_due, write)
                comment_due += USAGE_COMMENT_EVERY_S
            await self._sleep_until(due)
            if order is not None and step == strikes_at:
                await self._strike(run, order, write)
            await self._step(run, step, write)

    async def _comment(self, run: Run, due: float, write: Write) -> None:
        await self._sleep_until(due)
        if run.stream is not None:
            await write(render_usage(run.tally.usage, self.load))

    async def _step(self, run: Run, step: int, write: Write) -> None:
        for choice, generation in enumerate(run.generations):
            if step < len(generation.tokens):
                run.tally.add(generation.tokens[step])
                if run.stream is not None:
                    last = step == len(generation.tokens) - 1
                    await write(run.stream.token(choice, generation.tokens[step], last=last))

    async def _strike(self, run: Run, order: Order, write: Write) -> None:
        match order.fault:
            case "stall":
                await anyio.sleep_forever()
            case "cut":
                raise Broken
            case "finish":
                raise Finished
            case "harmony":
                raise internal(faults.HARMONY_MESSAGE)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "garbage" if run.stream is not None:
                await write(faults.GARBAGE_EVENT)

    def _interval_s(self) -> float:
        others = self._scheduler.running - 1
        return (self._settings.inter_token_ms + others * self._settings.inter_token_per_request_ms) / 1000

    async def _sleep_until(self, due: float) -> None:
        await self._clock.sleep(due - self._clock.monotonic())
