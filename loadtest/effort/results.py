"""What became of the requests, and the figures and verdicts that follow from it. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster.core.effort import EFFORTS, Effort
from loadtest.bench.statistics import Spread, percentile, spread
from loadtest.effort.arrivals import DEADLINES_S
from loadtest.verdicts import Verdict

System = Literal["gateway", "round-robin"]
SYSTEMS: tuple[System, System] = ("gateway", "round-robin")
WAIT_S = 1.0
"""Longest p95 wait of low effort."""
TIMES = 10.0
"""How many times shorter it is than with round-robin, at least."""

Fate = Literal["served", "refused", "left", "waiting", "failed"]
"""``refused`` by the system, ``left`` at its deadline, still ``waiting`` when the run ended, ``failed``: any
other end before the first token."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, and what became of it."""

    at_s: float
    effort: Effort
    fate: Fate
    waited_s: float
    """Seconds from its time of arrival to the first token that shows, less the engine's own time to it; to
    the end where there was none."""
    tokens: int
    """Output tokens of an answer that came to its end; 0 of one that did not."""
    reason: str = ""
    """Why it failed."""

    @property
    def wait_s(self) -> float:
        """Its wait as it counts: whoever was not served counts as having waited until its deadline."""
        return DEADLINES_S[self.effort] if self.fate in {"refused", "left", "failed"} else self.waited_s


@dataclass(frozen=True, slots=True)
class Waits:
    """One effort in one run of one system."""

    count: int
    p50_s: float
    p95_s: float
    served: int
    refused: int
    left: int
    waiting: int
    failed: int


@dataclass(frozen=True, slots=True)
class Found:
    """One run of one system."""

    outcomes: tuple[Outcome, ...]
    tokens_per_s: float
    """Output of whole answers, by the seconds of load."""
    late_ms: float
    """Most that the client was late in sending; it counts as a wait."""

    def waits(self, effort: Effort) -> Waits:
        """Return the waits of one effort. Raises `ValueError` where there was none."""
        chosen = [one for one in self.outcomes if one.effort == effort]
        seconds = [one.wait_s for one in chosen]
        fates = [one.fate for one in chosen]
        return Waits(
            len(chosen),
            percentile(seconds, 0.5),
            percentile(seconds, 0.95),
            *(fates.count(fate) for fate in ("served", "refused", "left", "waiting", "failed")),
        )

    def by_effort(self) -> dict[Effort, Waits]:
        """Return the waits of every effort that came."""
        came = {one.effort for one in self.outcomes}
        return {effort: self.waits(effort) for effort in EFFORTS if effort in came}


@dataclass(slots=True)
class Run:
    """Everything: each system's runs in the order of their seeds."""

    about: dict[str, str]
    found: dict[System, list[Found]] = field(default_factory=lambda: {name: [] for name in SYSTEMS})

    def over_runs(self, system: System, figure: Callable[[Found], float]) -> Spread:
        """Return a figure's median and spread. Raises `ValueError` where nothing was measured."""
        return spread([figure(one) for one in self.found[system]])


def low_p95_s(found: Found) -> float:
    """Return the figure that is judged."""
    return found.waits("low").p95_s


def judge(run: Run) -> list[Verdict]:
    """Return every bar's verdict. A bar holds when every single run holds it."""
    ours, theirs = run.found["gateway"], run.found["round-robin"]
    if not ours or len(ours) != len(theirs):
        return [Verdict("every run is measured", False, f"{len(ours)} and {len(theirs)} runs")]
    waits = [low_p95_s(one) for one in ours]
    ratios = [low_p95_s(other) / max(wait, 1e-3) for wait, other in zip(waits, theirs, strict=True)]
    failed = _failures([*ours, *theirs])
    return [
        Verdict(f"low effort's p95 wait: at most {WAIT_S:g} s", max(waits) <= WAIT_S, _shown(waits, " s")),
        Verdict(f"at least {TIMES:g}x under round-robin's", min(ratios) >= TIMES, _shown(ratios, "x")),
        Verdict("no request fails", not failed, ", ".join(sorted(failed)) or "none"),
    ]


def _failures(found: Sequence[Found]) -> set[str]:
    return {one.reason for run in found for one in run.outcomes if one.fate == "failed"}


def _shown(values: Sequence[float], unit: str) -> str:
    found = spread(values)
    return f"{found.median:.2f}{unit} ({found.low:.2f} to {found.high:.2f})"
