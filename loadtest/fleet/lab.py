"""Runs simulations on two processes, each setup once, and remembers what they came to."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from types import TracebackType
from typing import Self

from loadtest.fleet import simulation
from loadtest.fleet.engine import engine
from loadtest.fleet.measures import Measures, measure
from loadtest.fleet.simulation import Setup
from loadtest.fleet.workload import Mix, Stream, Workload, mean_tokens

PROCESSES = 2
_SATURATION = 1.6
"""Load at which a fleet's capacity is measured, in what its engines could do without any prefill."""
_PATIENCE_S = 1e6


def simulate(setup: Setup) -> Measures:
    """Simulate and measure ``setup``."""
    return measure(simulation.run(setup), setup.workload.seconds, setup.workload.warm_s)


class Lab:
    """A context in which setups are measured in parallel."""

    def __init__(self, told: Callable[[str], None] = lambda _: None) -> None:
        """``told`` is called with a line on progress."""
        self._told = told
        self._known: dict[Setup, Measures] = {}
        self._asked = 0

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def measure(self, setups: Iterable[Setup]) -> list[Measures]:
        """Return the measures of ``setups`` in their order."""
        wanted = list(setups)
        new = [setup for setup in dict.fromkeys(wanted) if setup not in self._known]
        futures = {self._pool.submit(simulate, setup): setup for setup in new}
        self._asked += len(new)
        for done in as_completed(futures):
            self._known[futures[done]] = done.result()
            self._told(f"{len(self._known)} of {self._asked} simulations")
        return [self._known[setup] for setup in wanted]

    def capacities(self, fleets: Iterable[tuple[Setup, Mix]]) -> list[float]:
        """Return each fleet's output at saturation, in tokens per second: first come first served, all kept.

        The workload of a setup says for how long it is measured.
        """
        return [found.generated_per_s for found in self.measure(map(saturated, *zip(*fleets, strict=True)))]


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
