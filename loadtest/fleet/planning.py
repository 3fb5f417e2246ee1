"""Searches the smallest fleet that holds a site's objective, by simulation."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loadtest.fleet import sizing
from loadtest.fleet.engine import engine
from loadtest.fleet.measures import Measures
from loadtest.fleet.simulation import Setup
from loadtest.fleet.sizing import Demand, Objective, Site, Size

REPEATS = 2
"""Simulations of each size, with other chance; the worst counts."""
AROUND = 2
"""Sizes above the answer that are shown too."""

Measure = Callable[[Iterable[Setup]], list[Measures]]
"""`loadtest.fleet.lab.Lab.measure`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer, and what it rests on."""

    site: Site
    objective: Objective
    asked: Demand
    each: float
    """Output in tokens per second of one full replica."""
    sizes: tuple[Size, ...]
    """Those that were simulated, the smallest first."""
    enough: int | None
    """Replicas that hold the objective; None: no size that may be had does."""
    spare: Size | None
    """The fleet that holds it while one of its replicas dies and stays away; None: none that may be had."""

    why_none: str = ""
    """What to tell where nothing is enough."""


def plan(
    site: Site,
    objective: Objective,
    measure: Measure,
    *,
    most: int,
    seed: int = 1,
    told: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Return the smallest fleet of at most ``most`` replicas; ``told`` is called with each size's verdict."""
    search = _Search(site, objective, measure, range(seed, seed + REPEATS), told)
    hopeless = sizing.unreachable(site, objective, engine(site.gpu))
    if hopeless is not None:
        return search.none(hopeless)
    filled = math.ceil(search.asked.tokens_per_s / search.each)
    if filled > most * sizing.HOPELESS_LOAD:
        return search.none(f"the tokens alone fill {filled:,} GPUs")
    least = search.smallest(sizing.first_guess(search.asked, search.each), most)
    return search.none(search.why_not()) if least is None else search.found(least, search.spare(least, most))


class _Search:
    """The sizes that were looked at."""

    def __init__(
        self, site: Site, objective: Objective, measure: Measure, seeds: range, told: Callable[[str], None]
    ) -> None:
        self._site, self._objective, self._measure = site, objective, measure
        self._seeds, self._told = seeds, told
        self.asked = sizing.demand(site)
        self.each = sizing.capacity(engine(site.gpu), self.asked)
        self._sizes: dict[int, Size] = {}

    @property
    def held(self) -> dict[int, bool]:
        """Return which sizes hold the objective."""
        return {gpus: not size.misses(self._objective) for gpus, size in self._sizes.items()}

    def smallest(self, guess: int, most: int) -> int | None:
        """Return the smallest size that holds, once those above it hold too: one may pass by chance."""
        while True:
            while (gpus := sizing.next_size(self.held, guess, most)) is not None:
                self._look(gpus)
            least = sizing.enough(self.held)
            above = range(least + 1, min(least + AROUND, most) + 1) if least is not None else ()
            unknown = [gpus for gpus in above if gpus not in self._sizes]
            if not unknown:
                return least
            for gpus in unknown:
                self._look(gpus)

    def spare(self, least: int, most: int) -> Size | None:
        """Return the smallest fleet above ``least`` that holds the objective with one replica less."""
        for gpus in range(least + 1, most + 1):
            size = self._simulate(gpus, failing=True)
            if not size.misses(self._objective):
                return size
        return None

    def why_not(self) -> str:
        """Return what the largest size misses first."""
        gpus = max(self._sizes)
        return f"with {gpus}, {self._sizes[gpus].misses(self._objective)[0]}"

    def found(self, enough: int, spare: Size | None) -> Plan:
        """Return the answer."""
        return self._plan(enough, spare, "")

    def none(self, why: str) -> Plan:
        """Return that there is none."""
        return self._plan(None, None, why)

    def _plan(self, enough: int | None, spare: Size | None, why_none: str) -> Plan:
        sizes = tuple(self._sizes[gpus] for gpus in sorted(self._sizes))
        return Plan(self._site, self._objective, self.asked, self.each, sizes, enough, spare, why_none)

    def _look(self, gpus: int) -> None:
        self._sizes[gpus] = self._simulate(gpus, failing=False)

    def _simulate(self, gpus: int, *, failing: bool) -> Size:
        setups = sizing.setups(self._site, self._objective, gpus, self._seeds, failing=failing)
        load = self.asked.tokens_per_s / ((gpus - failing) * self.each)
        size = sizing.size(gpus, load, self._measure(setups))
        misses = size.misses(self._objective)
        name = f"{gpus} GPU{'s' if gpus > 1 else ''}{', one of which dies' if failing else ''}"
        self._told(f"{name}: {misses[0] if misses else 'holds'}")
        return size
