"""Objectives: what the figures of each effort must keep to, and the verdict on a run."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cluster.core.effort import EFFORTS, Effort
from cluster.settings.fields import Count, Seconds, Section
from loadtest.live.figures import Figures, Spans
from loadtest.live.plan import PlanError, check, document
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


class Objectives(Section):
    """The objectives' file."""

    efforts: dict[Effort, Objective] = Field(min_length=1)
    """Objectives by effort."""
    least: Count = 20
    """Requests that an effort needs to be judged; with fewer its objectives do not hold."""

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
