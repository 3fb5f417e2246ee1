"""A replica's engine in simulated time: one batch, its queue, and when something happens next.

No token is simulated by itself. All requests of a batch get a token in each step, so one counter of steps
tells how far each is: a request ends when the counter reaches its mark. Between two events the batch is the
same, and the cache grows by the batch's size a step; so the time that d steps take is ``b d + a d^2``, solved
exactly. A prompt stops the batch while it is prefilled.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

from cluster.core.engine import EngineLoad
from cluster.core.lanes import Demand
from loadtest.fleet.engine import Engine
from loadtest.fleet.workload import Job

LATE_TOKENS = 128
"""Still expected of a request that has outlived its expectation, as in `cluster.serving.meter`."""


@dataclass(slots=True, eq=False)
class _Running:
    job: Job
    mark: float
    """Count of steps at which it ends."""
    key: float


class Replica:
    """One engine. The caller moves its time with `advance` and asks `next_event_s` when to come again."""

    def __init__(self, name: str, engine: Engine, *, key: Callable[[Job], float], slow: float = 1.0) -> None:
        """Start empty. ``key`` orders the queue, least first; a replica ``slow`` 2 takes twice the time."""
        self.name, self.engine, self.slow = name, engine, slow
        self.up = True
        self.demand = Demand()
        self.generated = 0.0
        """Tokens generated since the start."""
        self._key = key
        self._at_s = self._stalled_until_s = 0.0
        self._steps = 0.0
        self._kv = 0.0
        self._running: dict[int, _Running] = {}
        self._marks: list[tuple[float, int]] = []
        self._waiting: list[tuple[float, int, Job]] = []
        self._started: list[Job] = []

    @property
    def load(self) -> EngineLoad:
        """What it says of its load."""
        use = min(1.0, self._kv / self.engine.kv_tokens)
        return EngineLoad(len(self._running), len(self._waiting), use, self.engine.slots)

    def running(self) -> list[Job]:
        """Return the requests of its batch."""
        return [run.job for run in self._running.values()]

    def jobs(self) -> list[Job]:
        """Return its requests, running and waiting."""
        return self.running() + [job for _, _, job in self._waiting]

    def expected_tokens(self) -> int:
        """Return the tokens that its requests still have to generate, as expected."""
        steps = self._steps
        left = 0.0
        for run in self._running.values():
            job = run.job
            tokens = job.expected - job.output + run.mark - steps
            left += tokens if tokens > LATE_TOKENS else LATE_TOKENS  # `max` takes half of a report's time
        return int(left + sum(max(job.expected - job.generated, LATE_TOKENS) for _, _, job in self._waiting))

    def put(self, job: Job, now_s: float) -> list[Job]:
        """Take a request as of ``now_s``; return those that had ended by then."""
        ended = self.advance(now_s)
        self.demand = self.demand.plus(job.effort, job.expected, now_s)
        heapq.heappush(self._waiting, (self._key(job), job.number, job))
        self._fill(now_s)
        return ended

    def take_started(self) -> list[Job]:
        """Return the requests that got their first slot since the last call."""
        started, self._started = self._started, []
        return started

    def advance(self, now_s: float) -> list[Job]:
        """Move to ``now_s`` and return the requests that ended; the queue has moved up then."""
        begin_s = max(self._at_s, self._stalled_until_s)
        self._at_s = now_s
        if now_s > begin_s and self._running:
            self._move(self._steps_in((now_s - begin_s) * 1e3 / self.slow))
        ended = []
        while self._marks and self._marks[0][0] <= self._steps + 1e-6:
            _, number = heapq.heappop(self._marks)
            job = self._running.pop(number).job
            self._kv -= job.prompt + job.output
            job.end_s = now_s
            ended.append(job)
        if self._running and self._kv >= self.engine.kv_tokens:
            self._preempt()
        if ended:
            self._fill(now_s)
        return ended

    def next_event_s(self) -> float:
        """Return when a request ends or the cache is full, if nothing else happens; infinity when idle."""
        if not self._running:
            return math.inf
        size = len(self._running)
        steps = max(self._marks[0][0] - self._steps, 0.0)
        if size > 1:
            steps = min(steps, max(self.engine.kv_tokens - self._kv, 0.0) / size)
        square, line = self._pace()
        begin_s = max(self._at_s, self._stalled_until_s)
        return begin_s + (line * steps + square * steps * steps) * self.slow * 1e-3 + 1e-9

    def fail(self) -> list[Job]:
        """Die: return the requests that were lost."""
        lost = self.jobs()
        self.up = False
        self._running, self._marks, self._waiting, self._kv = {}, [], [], 0.0
        self.demand = Demand()
        return lost

    def _pace(self) -> tuple[float, float]:
        """Return (a, b): d steps of this batch take ``b d + a d^2`` milliseconds."""
        size, engine = len(self._running), self.engine
        return engine.kv_ns * 1e-6 * size / 2, engine.step_ms[size] + engine.kv_ns * 1e-6 * self._kv

    def _steps_in(self, ms: float) -> float:
        square, line = self._pace()
        return 2 * ms / (line + math.sqrt(line * line + 4 * square * ms))

    def _move(self, steps: float) -> None:
        tokens = steps * len(self._running)
        self._steps += steps
        self._kv += tokens
        self.generated += tokens

    def _fill(self, now_s: float) -> None:
        engine = self.engine
        while self._waiting and len(self._running) < engine.slots:
            key, number, job = self._waiting[0]
            context = job.prompt + job.generated
            if self._running and self._kv + context + len(self._running) > engine.kv_tokens:
                return
            heapq.heappop(self._waiting)
            prefill_s = context / engine.prefill_tokens_per_ms * self.slow * 1e-3
            self._stalled_until_s = max(self._stalled_until_s, now_s) + prefill_s
            if job.start_s is None:
                job.start_s = now_s
            if job.first_s is None:
                job.first_s = self._stalled_until_s
                self._started.append(job)
            mark = self._steps + max(job.output - job.generated - 1, 0.0)
            self._kv += context + 1
            self._running[number] = _Running(job, mark, key)
            heapq.heappush(self._marks, (mark, number))

    def _preempt(self) -> None:
        """Put the last in order back into the queue; what it generated has to be prefilled again."""
        if len(self._running) == 1:
            return
        worst = max(self._running.values(), key=lambda run: (run.key, run.job.number))
        job = worst.job
        del self._running[job.number]
        before = job.generated
        job.generated = max(job.output - 1 - (worst.mark - self._steps), before)
        self._kv -= job.prompt + job.generated + 1
        self._marks = [(run.mark, number) for number, run in self._running.items()]
        heapq.heapify(self._marks)
        heapq.heappush(self._waiting, (worst.key, job.number, job))
