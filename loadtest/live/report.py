"""Writes what a run came to: ``run.json``, ``report.png``, ``report.html``, and a table on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest import verdicts
from loadtest.live import page, plot, records, results
from loadtest.live.figures import Spans
from loadtest.live.records import Record
from loadtest.live.results import Run
from loadtest.live.slo import seconds


def requests(folder: Path) -> list[Record]:
    """Return the records in a run's folder."""
    return list(records.read(folder / "requests.jsonl"))


def write(run: Run, folder: Path) -> None:
    """Write everything but the records, which are there."""
    results.save(run, folder)
    plot.save(run, folder / "report.png")
    page.save(run, folder / "report.html", picture=(folder / "report.png").read_bytes())


def show(run: Run, console: Console) -> None:
    """Print the figures, the verdicts and the warnings."""
    table = Table(title="Times by effort, and whole answers")
    columns = ("TTFT p50", "p95", "inter-token", "p99", "e2e p50", "p95", "tokens/s p50", "answers", "errors")
    for column in ("", *columns):
        table.add_column(column, justify="right")
    for effort, found in run.by_effort().items():
        table.add_row(
            effort,
            *_cells(found.ttft_s, "p50", "p95"),
            *_cells(found.inter_token_s, "mean", "p99"),
            *_cells(found.e2e_s, "p50", "p95"),
            "-" if found.tokens_per_s is None else f"{found.tokens_per_s.p50:.1f}",
            f"{found.good} of {found.count}",
            f"{found.error_share:.2%}",
        )
    console.print(table)
    if run.verdicts():
        console.print(verdicts.table(run.verdicts()))
    for warning in run.warnings():
        console.print(f"[yellow]warning:[/yellow] {warning}", highlight=False)


def _cells(spans: Spans | None, *points: str) -> list[str]:
    return ["-" if spans is None else seconds(spans.at(point)) for point in points]
