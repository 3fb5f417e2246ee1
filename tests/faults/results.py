"""What all trials have shown: one table, as JSON and as Markdown. Pure, but for the writing."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.kinds import KINDS, Kind
from tests.faults.trial import Trial

CONFIDENCE = 0.95


def upper_bound(failures: int, tried: int) -> float:
    """Return the share of failures that is not exceeded with 95 % confidence (Clopper and Pearson, one side).

    Of no failures in n trials it is ``1 - 0.05 ** (1 / n)``.
    """
    if failures == tried:
        return 1.0
    low, high = failures / tried, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        likely = sum(
            math.comb(tried, count) * middle**count * (1 - middle) ** (tried - count)
            for count in range(failures + 1)
        )
        low, high = (middle, high) if likely > 1 - CONFIDENCE else (low, middle)
    return high


@dataclass(frozen=True)
class Row:
    """One kind of fault, over all its trials."""

    name: str
    tells: str
    tried: int
    survived: int
    """Trials without a finding."""
    failing_at_most: float
    """Share of trials that fail at most, with 95 % confidence."""
    requests: int
    told: int
    """Requests whose client was told of a failure: refused, or by an event."""
    lost: int
    """Requests that got no answer at all."""
    billed_minus_sent: tuple[int, int] | None
    """Lowest and highest, in tokens, of answers that did not end; None: all ended."""
    disturbed_s: float
    """Longest time from a strike to the last end of a request that failed."""
    recovery_median_s: float
    recovery_max_s: float


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Return a row for each kind that was tried, in the order of the kinds."""
    by_kind = {kind: [trial for trial in trials if trial.kind == kind.name] for kind in KINDS}
    return [_row(kind, own) for kind, own in by_kind.items() if own]


def _row(kind: Kind, trials: Sequence[Trial]) -> Row:
    failed = sum(bool(trial.findings) for trial in trials)
    over = [tokens for trial in trials for tokens in trial.billed_minus_sent]
    recoveries = [trial.recovery_s for trial in trials]
    return Row(
        name=kind.name,
        tells=kind.tells,
        tried=len(trials),
        survived=len(trials) - failed,
        failing_at_most=round(upper_bound(failed, len(trials)), 4),
        requests=sum(trial.requests for trial in trials),
        told=sum(_told(trial) for trial in trials),
        lost=sum(trial.lost for trial in trials),
        billed_minus_sent=(min(over), max(over)) if over else None,
        disturbed_s=round(max(trial.disturbed_s for trial in trials), 1),
        recovery_median_s=round(statistics.median(recoveries), 1),
        recovery_max_s=round(max(recoveries), 1),
    )


def _told(trial: Trial) -> int:
    return sum(count for end, count in trial.ends.items() if end.startswith(("refused", "told")))


def write(folder: Path, about: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """Write ``faults.json`` with everything, and ``faults.md`` with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    made = rows(trials)
    document = {
        "about": dict(about),
        "rows": [asdict(row) for row in made],
        "trials": [asdict(trial) for trial in trials],
    }
    (folder / "faults.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "faults.md").write_text(markdown(about, made))


def markdown(about: Mapping[str, Any], made: Iterable[Row]) -> str:
    """Return the table with what it is about."""
    head = (
        "fault",
        "survived / tried",
        "fails at most",
        "requests",
        "told of a failure",
        "without an answer",
        "tokens billed less sent",
        "last failure after, s",
        "whole again after, s: median (longest)",
    )
    lines = [
        "# Faults on the whole stack",
        "",
        "Written by `make faults` (`python -m tests.faults`), which says what each column means.",
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(_line(row) for row in made),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    over = "all ended" if row.billed_minus_sent is None else "{} to {}".format(*row.billed_minus_sent)
    cells = (
        f"{row.name}: {row.tells}",
        f"{row.survived} / {row.tried}",
        f"{100 * row.failing_at_most:.1f} %",
        row.requests,
        row.told,
        row.lost,
        over,
        row.disturbed_s,
        f"{row.recovery_median_s} ({row.recovery_max_s})",
    )
    return f"| {' | '.join(map(str, cells))} |"
