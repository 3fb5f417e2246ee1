"""Runs simulations, one process for each core, each setup once, and remembers what they came to."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from types import TracebackType
from typing import Self

from loadtest.fleet import simulation
from loadtest.fleet.engine import engine
from loadtest.fleet.measures import Measures, measure
from loadtest.fleet.memory import Memory
from loadtest.fleet.routers import OURS
from loadtest.fleet.simulation import Setup
from loadtest.fleet.workload import Mix, Stream, Workload, mean_tokens

_SATURATION = 1.6
"""Load at which a fleet's capacity is measured, in what its engines could do without any prefill."""
_PATIENCE_S = 1e6


def simulate(setup: Setup) -> Measures:
    """Simulate and measure ``setup``."""
    return measure(simulation.run(setup), setup.workload.seconds, setup.workload.warm_s)


class Lab:
    """A context in which setups are measured in parallel."""

    def __init__(
        self,
        told: Callable[[str], None] = lambda _: None,
        *,
        memory: Memory | None = None,
        processes: int | None = None,
    ) -> None:
        """``told`` is called with a line on progress, ``memory`` keeps results from run to run.

        ``processes`` is the number of simulations at a time, without a word one for each core.
        """
        self._told = told
        self._known: dict[Setup, Measures] = {}
        self._memory = memory
        self._processes = processes or len(os.sched_getaffinity(0))
        self._asked = 0

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(self._processes, mp_context=multiprocessing.get_context("spawn"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def measure(self, setups: Iterable[Setup]) -> list[Measures]:
        """Return the measures of ``setups`` in their order; the longest simulations run first."""
        wanted = list(setups)
        new = [setup for setup in dict.fromkeys(wanted) if setup not in self._known]
        self._asked += len(new)
        if self._memory:
            remembered = {setup: found for setup in new if (found := self._memory.recall(setup))}
            self._known.update(remembered)
            new = [setup for setup in new if setup not in remembered]
        futures = {
            self._pool.submit(simulate, setup): setup for setup in sorted(new, key=_work, reverse=True)
        }
        for done in as_completed(futures):
            setup, found = futures[done], done.result()
            self._known[setup] = found
            if self._memory:
                self._memory.keep(setup, found)
            self._told(f"{len(self._known)} of {self._asked} simulations")
        return [self._known[setup] for setup in wanted]

    def capacities(self, fleets: Iterable[tuple[Setup, Mix]]) -> list[float]:
        """Return each fleet's output at saturation, in tokens per second: first come first served, all kept.

        The workload of a setup says for how long it is measured.
        """
        return [found.generated_per_s for found in self.measure(map(saturated, *zip(*fleets, strict=True)))]


class Rehearsal(Lab):
    """Finds out what a study is going to ask for, so that all of it can be simulated at once.

    Capacities, from which the rates follow, are those of ``lab``; all else is made up.
    """

    def __init__(self, lab: Lab, made_up: Measures) -> None:
        super().__init__()
        self._lab, self._made_up = lab, made_up
        self.asked: list[Setup] = []

    def measure(self, setups: Iterable[Setup]) -> list[Measures]:
        """Note ``setups``, and return something for each of them."""
        wanted = list(setups)
        self.asked += wanted
        return [self._made_up] * len(wanted)

    def capacities(self, fleets: Iterable[tuple[Setup, Mix]]) -> list[float]:
        """Return what the laboratory measures."""
        return self._lab.capacities(fleets)


def _work(setup: Setup) -> float:
    """Return how long a simulation takes, in nothing but comparison: its requests and its reports."""
    work = setup.workload
    requests = sum(
        stream.rate * (min(stream.until_s, work.seconds) - stream.from_s) for stream in work.streams
    )
    return requests * (2 if setup.policy == OURS else 1) + setup.replicas * work.seconds / setup.report_s


def saturated(fleet: Setup, mix: Mix) -> Setup:
    """Return ``fleet`` with more of ``mix`` than it can do, behind an unbounded queue."""
    made = engine(fleet.gpu, fleet.slots)
    most = fleet.replicas * made.slots / made.step_ms[made.slots] * 1e3
    stream = Stream(_SATURATION * most / mean_tokens(mix), mix)
    endless = Workload((stream,), fleet.workload.seconds, deadlines_s=(_PATIENCE_S,) * 3)
    return replace(
        fleet,
        workload=endless,
        policy="least-requests",
        slow=(),
        changes=(),
        absent=0,
        prior_factors=(1, 1, 1),
    )
