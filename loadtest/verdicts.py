"""Verdicts: a bar, whether it held, and what was found. Every benchmark and load test ends in some."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar and what became of it."""

    bar: str
    held: bool
    found: str
    """What was measured, or why nothing was."""


def last_line(verdicts: Sequence[Verdict]) -> str:
    """Return how many bars held."""
    return f"{sum(verdict.held for verdict in verdicts)} of {len(verdicts)} bars held"


def table(verdicts: Sequence[Verdict]) -> Table:
    """Return the bars, whether each held, and what was found."""
    rows = Table(title="Bars")
    for column in ("bar", "held", "found"):
        rows.add_column(column)
    for verdict in verdicts:
        rows.add_row(verdict.bar, "yes" if verdict.held else "[red]no[/red]", verdict.found)
    return rows
