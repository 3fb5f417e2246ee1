"""A study as tables: one for each part of it, a row for each policy."""

import math
from collections.abc import Callable, Sequence

from rich.table import Table

from cluster.core.effort import Effort
from loadtest.bench.statistics import spread
from loadtest.fleet.acceptance import Check
from loadtest.fleet.measures import Group, Measures
from loadtest.fleet.routers import OURS
from loadtest.fleet.scenarios import Case

Found = tuple[Case, Sequence[Measures]]


def _of(effort: Effort, figure: Callable[[Group], float]) -> Callable[[Measures], float]:
    return lambda measures: figure(measures.by_effort[effort])


COLUMNS: tuple[tuple[str, Callable[[Measures], float], str], ...] = (
    ("low: wait p95, s", _of("low", lambda group: group.wait_p95_s), ".2f"),
    ("refused", _of("low", lambda group: group.refused), ".1%"),
    ("between tokens p95, ms", _of("low", lambda group: group.token_p95_ms), ".2f"),
    ("medium: wait p95, s", _of("medium", lambda group: group.wait_p95_s), ".2f"),
    ("refused", _of("medium", lambda group: group.refused), ".1%"),
    ("high: wait p95, s", _of("high", lambda group: group.wait_p95_s), ".0f"),
    ("refused", _of("high", lambda group: group.refused), ".1%"),
    ("end p95, s", _of("high", lambda group: group.end_p95_s), ".0f"),
    ("lost", lambda measures: max(group.lost for group in measures.by_effort.values()), ".1%"),
    ("tokens/s", lambda measures: measures.tokens_per_s, ",.0f"),
)


def tables(found: Sequence[Found]) -> list[Table]:
    """Return the tables of a study."""
    made: dict[str, Table] = {}
    for case, runs in found:
        table = made.get(case.title) or made.setdefault(case.title, _empty(case.title))
        cells = [told([figure(run) for run in runs], form) for _, figure, form in COLUMNS]
        table.add_row(case.policy, *cells, style="bold" if case.policy == OURS else "")
    return list(made.values())


def verdicts(checks: Sequence[Check]) -> Table:
    """Return the table of an acceptance run."""
    table = Table("bar", "figure")
    for name in ("median", "over the seeds", "limit"):
        table.add_column(name, justify="right")
    table.add_column("beside")
    table.add_column("")
    for check in checks:
        over, word = check.over, "[green]held[/green]" if check.held else "[red]not held[/red]"
        form = ".2%" if check.name.endswith("refused") else ".3f"
        table.add_row(
            str(check.bar),
            check.name,
            format(over.median, form),
            f"{over.low:{form}} to {over.high:{form}}",
            f"{check.sense} {check.limit:g}",
            check.beside,
            word,
        )
    return table


def told(values: Sequence[float], form: str) -> str:
    """Return the median of ``values`` and, where there are several, how far they reach."""
    if any(map(math.isnan, values)):
        return "none"
    over = spread(values)
    if format(over.low, form) == format(over.high, form):
        return format(over.median, form)
    return f"{over.median:{form}} ({over.low:{form}} to {over.high:{form}})"


def _empty(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("policy", no_wrap=True)
    for name, _, _ in COLUMNS:
        table.add_column(name, justify="right")
    return table
