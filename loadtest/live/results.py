"""A run as a whole: its figures, its verdicts, what the generator itself did; and its folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from cluster.core.effort import Effort
from loadtest.live import figures, phases, records, slo, watch
from loadtest.live.collect import Sample
from loadtest.live.figures import Figures, Rates
from loadtest.live.knee import Level
from loadtest.live.phases import Phase
from loadtest.live.plan import Plan, check
from loadtest.live.records import Record
from loadtest.live.slo import Objectives
from loadtest.live.watch import Sight, Trend
from loadtest.verdicts import Verdict

BUSY_CPU = 0.8
"""Share of a core from which on the generator's own times are in doubt."""
LATE_MS = 50.0
"""A timer that is so late says the same."""
NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Generator:
    """What the load generator itself used."""

    processes: int
    cpu_max: float
    """Most that one process used of its core in any stretch."""
    late_ms_max: float
    cpu_us_per_chunk: float | None
    """All of its CPU by the events with text; None: there were none."""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a report shows."""

    about: dict[str, str]
    plan: Plan
    objectives: Objectives | None
    records: Sequence[Record] = field(repr=False)
    samples: Sequence[Sample] = field(repr=False)
    levels: tuple[Level, ...] = ()
    knee: int | None = None
    """Users of the highest load that held every objective; None: not searched for."""
    started_s: float | None = None
    """When the shape began, in seconds since 1970; None: not known."""
    sights: Sequence[Sight] = field(default=(), repr=False)
    """What the target's own processes told."""

    @property
    def began_s(self) -> float:
        """When the shape began, or the first request was sent, in seconds since 1970."""
        return self.started_s or min((one.at_s for one in self.records), default=0.0)

    def phases(self) -> list[Phase]:
        """Return the stretches of a spike or a step."""
        return phases.phases(self.plan.shape, self.records, self.began_s)

    def trends(self) -> list[Trend]:
        """Return what the target's watched processes did."""
        return watch.trends(self.sights)

    @property
    def counted(self) -> list[Record]:
        """The records that count: those after the warm-up."""
        first_s = self.began_s + self.plan.warm_up_s
        return [one for one in self.records if one.at_s >= first_s]

    def by_effort(self) -> dict[Effort, Figures]:
        """Return the figures of every effort."""
        return figures.by_effort(self.counted)

    def rates(self) -> Rates:
        """Return the throughput from the end of the warm-up to the last answer."""
        counted = self.counted
        last_s = max((one.ended_s for one in counted), default=0.0)
        return figures.rates(counted, self.began_s + self.plan.warm_up_s, last_s + 1e-6)

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each objective: of the knee's highest load that held, if one was searched."""
        if self.objectives is None:
            return []
        if self.knee is not None:
            broken = next((one.broken for one in self.levels if not one.held), ())
            found = f"{self.knee} users held" + (f"; then broke: {', '.join(broken)}" if broken else "")
            return [Verdict("a load that holds every objective", self.knee > 0, found)]
        target = slo.judge_target(self.trends(), self.phases(), self.objectives)
        return [*slo.judge(self.by_effort(), self.objectives), *target]

    @property
    def held(self) -> bool:
        """Whether every objective held, and anything was answered at all."""
        return any(one.good for one in self.records) and all(one.held for one in self.verdicts())

    def generator(self) -> Generator:
        """Return what the generator used."""
        last = {one.worker: one for one in self.samples}
        chunks = sum(one.chunks for one in last.values())
        return Generator(
            processes=len(last),
            cpu_max=max((one.cpu for one in self.samples), default=0.0),
            late_ms_max=max((one.late_ms for one in self.samples), default=0.0),
            cpu_us_per_chunk=sum(one.cpu_s for one in last.values()) / chunks * 1e6 if chunks else None,
        )

    def warnings(self) -> list[str]:
        """Return what puts the figures in doubt."""
        used, found = self.generator(), []
        if not self.samples:
            found.append("the run was too short to watch the load generator itself")
        if used.cpu_max > BUSY_CPU:
            found.append(
                f"the load generator was the bottleneck: a process used {used.cpu_max:.0%} of its core; "
                "use more processes or machines"
            )
        if used.late_ms_max > LATE_MS:
            found.append(
                f"the load generator's timers were up to {used.late_ms_max:.0f} ms late, as are its times"
            )
        if not any(one.good for one in self.records):
            found.append("no request got a whole answer")
        return found

    def document(self) -> dict[str, Any]:
        """Return the run for machines, without its single requests."""
        plan, objectives = self.plan, self.objectives
        return {
            "about": self.about,
            "held": self.held,
            "knee_users": self.knee,
            "verdicts": [asdict(one) for one in self.verdicts()],
            "warnings": self.warnings(),
            "figures": {effort: asdict(found) for effort, found in self.by_effort().items()},
            "rates": asdict(self.rates()),
            "levels": [asdict(level) for level in self.levels],
            "phases": [asdict(phase) for phase in self.phases()],
            "goodput_kept": phases.goodput_kept(self.phases()),
            "target": [{**asdict(trend), "rss_growth": trend.rss_growth} for trend in self.trends()],
            "started_s": self.started_s,
            "generator": asdict(self.generator()),
            "fingerprints": sorted({one.fingerprint for one in self.records if one.fingerprint}),
            "plan": plan.model_dump(mode="json"),
            "objectives": None if objectives is None else objectives.model_dump(mode="json"),
        }


def save(run: Run, folder: Path) -> None:
    """Write ``run.json``."""
    (folder / NAME).write_bytes(orjson.dumps(run.document(), option=orjson.OPT_INDENT_2))


def load(folder: Path, objectives: Objectives | None = None) -> Run:
    """Read a run's folder; ``objectives`` replace its own. Raises ``OSError`` and ``ValueError``."""
    told = orjson.loads((folder / NAME).read_bytes())
    kept = told["objectives"]
    if objectives is None and kept is not None:
        objectives = check(Objectives, kept, NAME)
    samples = (folder / "generator.jsonl").read_bytes().splitlines()
    sights = (folder / "target.jsonl").read_bytes().splitlines()
    return Run(
        about=told["about"],
        plan=check(Plan, told["plan"], NAME),
        objectives=objectives,
        records=list(records.read(folder / "requests.jsonl")),
        samples=[Sample(**orjson.loads(line)) for line in samples],
        levels=tuple(Level(**{**one, "broken": tuple(one["broken"])}) for one in told["levels"]),
        knee=told["knee_users"],
        started_s=told["started_s"],
        sights=[Sight(**orjson.loads(line)) for line in sights],
    )
