"""A run as JSON and as tables on the terminal."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.core.effort import EFFORTS, Effort
from loadtest.bench.report import cell
from loadtest.effort.results import SYSTEMS, Found, Run, Waits
from loadtest.verdicts import Verdict, table


def document(run: Run, verdicts: list[Verdict]) -> dict[str, Any]:
    """Return everything that was found, for machines."""
    figures = {
        system: [
            {effort: asdict(waits) for effort, waits in found.by_effort().items()}
            for found in run.found[system]
        ]
        for system in SYSTEMS
    }
    return {**asdict(run), "figures": figures, "bars": [asdict(verdict) for verdict in verdicts]}


def show(run: Run, verdicts: list[Verdict], console: Console) -> None:
    """Print the table and the bars: medians of the runs, with the lowest and the highest."""
    for name, value in run.about.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(_waits(run))
    console.print(table(verdicts))


def _waits(run: Run) -> Table:
    table = Table(title="Wait for the first token: median of the runs (lowest to highest)")
    for column in ("", "effort"):
        table.add_column(column, no_wrap=True)
    for column in (
        "requests",
        "p50 s",
        "p95 s",
        "served",
        "refused",
        "left",
        "waiting",
        "failed",
        "tokens/s",
    ):
        table.add_column(column, justify="right")
    for system in SYSTEMS:
        for effort in EFFORTS:
            if all(effort in found.by_effort() for found in run.found[system]):
                table.add_row(system, effort, *_cells(run, system, effort))
    return table


def _cells(run: Run, system: Any, effort: Effort) -> list[str]:
    figures: list[tuple[int, Callable[[Waits], float]]] = [
        (0, lambda waits: waits.count),
        (2, lambda waits: waits.p50_s),
        (2, lambda waits: waits.p95_s),
        (0, lambda waits: waits.served),
        (0, lambda waits: waits.refused),
        (0, lambda waits: waits.left),
        (0, lambda waits: waits.waiting),
        (0, lambda waits: waits.failed),
    ]
    cells = [cell(run.over_runs(system, _of(effort, figure)), digits) for digits, figure in figures]
    return [*cells, cell(run.over_runs(system, lambda found: found.tokens_per_s), 0)]


def _of(effort: Effort, figure: Callable[[Waits], float]) -> Callable[[Found], float]:
    return lambda found: figure(found.waits(effort))
