"""``python -m loadtest.bench``: measure the gateway beside its peers, and judge it."""

import shutil
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from cluster.demo.progress import Progress
from loadtest.bench import bars, plot, report
from loadtest.bench.contenders import CONTENDERS
from loadtest.bench.peers import CACHE
from loadtest.bench.run import Bench, Options
from loadtest.bench.servers import BenchError
from loadtest.verdicts import last_line

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Measure only this contender; may be repeated: {', '.join(CONTENDERS)}."),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Repeats; each round measures every contender once.")
    ] = 3,
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of each measurement.")] = 4.0,
    soak_seconds: Annotated[float, typer.Option(min=5, help="Length of the soak.")] = 300.0,
    skip_soak: Annotated[bool, typer.Option("--skip-soak", help="No soak; its bars do not hold.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="One round of 1-second measurements and no soak, for development.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for bench.json, bench.png and logs.")] = CACHE / "last",
) -> None:
    """Measure the gateway beside its peers on this machine: CPU, latency, throughput, memory.

    The gateway runs as in production (keys, every limit, effort, metrics, usage lines). Each contender
    has a core to itself; its clients and a mock engine share the others. Figures are medians of the rounds,
    with their spread. The exit status is 0 only when every bar of docs/benchmarks.md held; a bar that was not
    measured did not hold. A whole run takes about 20 minutes; leave the machine alone meanwhile.
    """
    console = Console(stderr=True)
    unknown = set(only or ()) - set(CONTENDERS)
    if unknown:
        raise typer.BadParameter(f"no such contender: {', '.join(sorted(unknown))}", param_hint="--only")
    options = Options(
        only=tuple(name for name in CONTENDERS if only is None or name in only),
        rounds=1 if quick else rounds,
        seconds=1.0 if quick else seconds,
        soak_s=None if quick or skip_soak else soak_seconds,
    )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        with Progress(console) as progress:
            found = Bench(options, out.resolve(), done=progress.done, doing=progress.doing).run()
    except BenchError as error:
        console.print(f"error: {error}", style="red", highlight=False)
        raise typer.Exit(1) from error
    verdicts = bars.judge(found)
    (out / "bench.json").write_bytes(orjson.dumps(report.document(found, verdicts), option=_JSON))
    plot.save(found, out / "bench.png")
    report.show(found, verdicts, Console(width=max(Console().width, 160)))
    typer.echo(f"{out}/bench.json and bench.png")
    typer.echo(last_line(verdicts))
    raise typer.Exit(0 if all(verdict.held for verdict in verdicts) else 1)


_JSON = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS

if __name__ == "__main__":
    app()
