"""``python -m loadtest.effort``: measure what scheduling by effort saves on the real stack, and judge it."""

import shutil
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from cluster.demo.children import DemoError
from cluster.demo.progress import Progress
from loadtest.effort import plot, report, results
from loadtest.effort.run import Options, measure
from loadtest.machine import ROOT
from loadtest.verdicts import last_line

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def effort(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each system; each has a seed of its own.")] = 3,
    seconds: Annotated[float, typer.Option(min=5, help="Seconds of arrivals in each run.")] = 120.0,
    load: Annotated[
        float, typer.Option(min=0.1, max=3, help="Load as a share of the engines' capacity.")
    ] = 1.4,
    seed: Annotated[int, typer.Option(help="Seed of the first run's arrivals.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for effort.json, effort.png and logs.")] = ROOT
    / ".cache"
    / "bench"
    / "effort",
) -> None:
    """Measure how long requests wait for their first token under overload, by effort, on the real stack.

    Real Ray Serve with simulated engines, a real gateway, and clients that send at random times whatever
    becomes of earlier requests and leave at their deadlines (10, 30 and 300 s). Beside the gateway the same
    arrivals go to the same engines through Ray Serve's own round-robin router, first come, first served. The
    exit status is 0 only when every bar held in every run. A whole run takes about 15 minutes; leave the
    machine alone meanwhile.
    """
    console = Console(stderr=True)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        with Progress(console) as progress:
            options = Options(runs, seconds, load, seed)
            found = measure(options, out.resolve(), done=progress.done, doing=progress.doing)
    except DemoError as error:
        console.print(f"error: {error}", style="red", highlight=False)
        raise typer.Exit(1) from error
    verdicts = results.judge(found)
    (out / "effort.json").write_bytes(orjson.dumps(report.document(found, verdicts), option=_JSON))
    plot.save(found, out / "effort.png")
    report.show(found, verdicts, Console(width=max(Console().width, 140)))
    typer.echo(f"{out}/effort.json and effort.png")
    typer.echo(last_line(verdicts))
    raise typer.Exit(0 if all(verdict.held for verdict in verdicts) else 1)


_JSON = orjson.OPT_INDENT_2

if __name__ == "__main__":
    app()
