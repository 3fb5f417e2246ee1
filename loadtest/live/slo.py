"""Objectives: what the figures of each effort must keep to, and the verdict on a run."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cluster.core.effort import EFFORTS, Effort
from cluster.settings.fields import Count, Seconds, Section
from loadtest.live.figures import Figures, Spans
from loadtest.live.phases import Phase, goodput_kept
from loadtest.live.plan import PlanError, check, document
from loadtest.live.watch import Trend
from loadtest.verdicts import Verdict

Point = Literal["mean", "p50", "p90", "p95", "p99"]
Limits = dict[Point, Seconds]

DEFAULT = Path(__file__).parent.parent / "slo.yaml"
"""The objectives that stand in the repository."""


class Objective(Section):
    """What one effort must keep to; what is not named is not judged."""

    ttft_s: Limits = Field(default={})
    """Seconds to the first token, by ``mean`` or percentile."""
    answer_s: Limits = Field(default={})
    """Seconds to the first word that is no reasoning."""
    inter_token_s: Limits = Field(default={})
    """Seconds between tokens."""
    e2e_s: Limits = Field(default={})
    """Seconds to the end of a whole answer."""
    error_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Largest share of requests without a whole answer, refusals among them; None: not judged."""


class SystemObjective(Section):
    """What the system as a whole must keep to."""

    goodput_kept: Annotated[float, Field(gt=0)] | None = None
    """Least tokens a second in a spike or an overload, by those before it; None: not judged."""
    refused_within_s: Seconds | None = None
    """Longest p99 of refusals that are told at once, which those of a deadline are not; None: not judged."""
    rss_mib_per_min: Annotated[float, Field(ge=0)] | None = None
    """Largest slope of a watched process's memory; None: not judged."""
    rss_growth: Annotated[float, Field(ge=0)] | None = None
    """Largest growth of it, as a share; None: not judged."""
    open_files_growth: Annotated[int, Field(ge=0)] | None = None
    """Most files that it may have open at the end beyond those after the first fifth; None: not judged."""


class Objectives(Section):
    """The objectives' file."""

    efforts: dict[Effort, Objective] = Field(min_length=1)
    """Objectives by effort."""
    least: Count = 20
    """Requests that an effort needs to be judged; with fewer its objectives do not hold."""
    system: SystemObjective = SystemObjective()
    """What the system as a whole must keep to."""

    def only(self, efforts: Collection[Effort]) -> "Objectives":
        """Return the objectives of some efforts. Raises `PlanError` where none is left."""
        kept = {effort: one for effort, one in self.efforts.items() if effort in efforts}
        if not kept:
            raise PlanError("no objective is on an effort that the plan asks for")
        return self.model_copy(update={"efforts": kept})


def load(path: Path) -> Objectives:
    """Read the objectives. Raises `PlanError` that names every mistake."""
    return check(Objectives, document(path), str(path))


def judge(
    figures: Mapping[Effort, Figures], objectives: Objectives, *, least: int | None = None
) -> list[Verdict]:
    """Return the verdict on each objective. What could not be measured does not hold."""
    needed = objectives.least if least is None else least
    return [
        verdict
        for effort in EFFORTS
        if effort in objectives.efforts
        for verdict in _effort(effort, figures.get(effort), objectives.efforts[effort], needed)
    ]


def judge_target(trends: Sequence[Trend], phases: Sequence[Phase], objectives: Objectives) -> list[Verdict]:
    """Return the verdict on the objectives of the system. What could not be measured does not hold."""
    system, found = objectives.system, list[Verdict]()
    if system.goodput_kept is not None:
        kept = goodput_kept(phases)
        bar = f"goodput of the overload at least {system.goodput_kept:.0%} of that before"
        shown = "not measured" if kept is None else f"{kept:.0%}"
        found.append(Verdict(bar, kept is not None and kept >= system.goodput_kept, shown))
    if system.refused_within_s is not None:
        found.append(_refusals(phases, system.refused_within_s))
    limits: list[tuple[str, float | None, Callable[[Trend], float]]] = [
        (
            "memory grows by at most {:g} MiB/min",
            system.rss_mib_per_min,
            lambda one: one.rss_slope_mib_per_min,
        ),
        ("memory grows by at most the share {:g}", system.rss_growth, lambda one: one.rss_growth),
        (
            "open files grow by at most {:g}",
            system.open_files_growth,
            lambda one: one.open_files_last - one.open_files_first,
        ),
    ]
    for bar, limit, figure in limits:
        if limit is not None:
            worst = max((figure(one) for one in trends), default=None)
            shown = "not watched" if worst is None else f"{worst:.3g}"
            found.append(Verdict(bar.format(limit), worst is not None and worst <= limit, shown))
    return found


def _refusals(phases: Sequence[Phase], limit_s: float) -> Verdict:
    at_once = [
        spans.p99
        for phase in phases
        for reason, spans in phase.refusals.items()
        if reason != "deadline_exceeded"
    ]
    bar = f"refusals told at once: p99 at most {seconds(limit_s)}"
    if not at_once:
        return Verdict(bar, False, "not measured: nothing was refused")
    return Verdict(bar, max(at_once) <= limit_s, seconds(max(at_once)))


def _effort(effort: Effort, found: Figures | None, objective: Objective, least: int) -> Iterator[Verdict]:
    if found is None or found.count < least:
        count = 0 if found is None else found.count
        yield Verdict(f"{effort}: at least {least} requests", False, str(count))
        return
    for name, what in _TIMES.items():
        limits: Limits = getattr(objective, name)
        spans: Spans | None = getattr(found, name)
        for point, limit in limits.items():
            bar = f"{effort}: {what} {point} at most {seconds(limit)}"
            if spans is None:
                yield Verdict(bar, False, "not measured: no request got so far")
            else:
                yield Verdict(bar, spans.at(point) <= limit, seconds(spans.at(point)))
    if objective.error_share is not None:
        bar = f"{effort}: errors at most {objective.error_share:.2%}"
        shown = f"{found.error_share:.2%} ({found.count - found.good} of {found.count})"
        yield Verdict(bar, found.error_share <= objective.error_share, shown)


_TIMES = {
    "ttft_s": "time to first token",
    "answer_s": "time to first answer",
    "inter_token_s": "inter-token time",
    "e2e_s": "end to end",
}


def seconds(value: float) -> str:
    """Return a time with three digits, in the unit that suits it."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
