"""A run as JSON and as a table on the terminal."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.bench.measure import Requests
from loadtest.bench.results import Result, Round, Run, chunk_cpu_us, request_cpu_us
from loadtest.bench.statistics import Spread
from loadtest.verdicts import Verdict, table


def document(run: Run, verdicts: list[Verdict]) -> dict[str, Any]:
    """Return everything that was found, for machines."""
    return {**asdict(run), "bars": [asdict(verdict) for verdict in verdicts]}


def show(run: Run, verdicts: list[Verdict], console: Console) -> None:
    """Print the tables and the bars: medians of the rounds, with the lowest and the highest."""
    console.print(
        f"\n{run.about['machine']}, Python {run.about['python']}, {run.about['at']}", highlight=False
    )
    console.print(_costs(run))
    console.print(_latencies(run))
    console.print(table(verdicts))


def _costs(run: Run) -> Table:
    table = Table(title="CPU and memory: median of the rounds (lowest to highest)")
    table.add_column("", no_wrap=True)
    for column in (
        "µs/request",
        "redis",
        "µs/chunk",
        "redis",
        "streams",
        "of a core",
        "events/write",
        "RSS MiB",
    ):
        table.add_column(column, justify="right")
    for result in run.results.values():
        if not result.rounds:
            table.add_row(result.title, "not measured", style="red")
            continue
        table.add_row(result.title, *_request_cells(result), *_chunk_cells(result), _rss(result))
    return table


def _request_cells(result: Result) -> list[str]:
    redis = result.over_rounds(lambda one: max(one.requests.values(), key=lambda r: r.per_s).redis_cpu_us)
    return [cell(result.over_rounds(request_cpu_us), 0), cell(redis, 0)]


def _chunk_cells(result: Result) -> list[str]:
    if any(one.chunks is None for one in result.rounds):
        return ["-"] * 5
    found = [one.chunks for one in result.rounds if one.chunks is not None]
    return [
        cell(result.over_rounds(chunk_cpu_us), 1),
        f"{found[-1].redis_cpu_us:.1f}",
        str(min(one.streams for one in found)),
        f"{max(one.share for one in found):.0%}",
        f"{found[-1].events_per_write:.2f}",
    ]


def _rss(result: Result) -> str:
    return f"{result.rounds[-1].rss_mib:.0f}"


def _latencies(run: Run) -> Table:
    table = Table(title="Added latency in ms (closed loop: from 32 clients on it is queueing) and throughput")
    table.add_column("", no_wrap=True)
    counts = sorted(run.direct.rounds[0].requests) if run.direct.rounds else []
    for clients in counts:
        for column in (f"p50 at {clients}", "p99", "req/s"):
            table.add_column(column, justify="right")
    table.add_row(f"{run.direct.title}: all of it", *_latency_cells(run.direct, counts), style="dim")
    for name, result in run.results.items():
        cells = [_added_cells(run, name, clients) for clients in counts]
        if result.rounds:
            table.add_row(result.title, *(cell for three in cells for cell in three))
    return table


def _added_cells(run: Run, name: str, clients: int) -> list[str]:
    rate = run.results[name].over_rounds(lambda one: one.requests[clients].per_s)
    return [
        cell(run.added_ms(name, clients, _p50), 2),
        cell(run.added_ms(name, clients, _p99), 2),
        cell(rate, 0),
    ]


def _latency_cells(result: Result, counts: list[int]) -> list[str]:
    cells = []
    for clients in counts:
        for digits, figure in ((2, _p50), (2, _p99), (0, _per_s)):
            cells.append(cell(result.over_rounds(_at(clients, figure)), digits))
    return cells


def _at(clients: int, figure: Any) -> Any:
    def read(one: Round) -> float:
        return float(figure(one.requests[clients]))

    return read


def _p50(one: Requests) -> float:
    return one.p50_ms


def _p99(one: Requests) -> float:
    return one.p99_ms


def _per_s(one: Requests) -> float:
    return one.per_s


def cell(found: Spread | None, digits: int) -> str:
    """Return a median with its spread."""
    if found is None:
        return "-"
    median, low, high = (f"{value:.{digits}f}" for value in (found.median, found.low, found.high))
    return median if low == high else f"{median} ({low} to {high})"
