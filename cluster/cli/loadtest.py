"""The commands ``loadtest run|plan|report|compare``: load a running system, judge it, compare two runs."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli.common import FINDING, UNREACHABLE, USAGE, JsonOption, fail, print_json

if TYPE_CHECKING:
    from loadtest.live.results import Run
    from loadtest.live.slo import Objectives

app = typer.Typer(
    help="Load a running system with Locust, by reasoning effort; see loadtest/README.md.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="Folder of a run.", exists=True, file_okay=False)]


@app.command()
def run(
    url: Annotated[
        str,
        typer.Option(
            help="The API's address, up to and with /v1.", envvar="OPENAI_BASE_URL", show_default=False
        ),
    ] = "",
    plan: Annotated[
        Path | None,
        typer.Option(help="The plan, as `loadtest plan` prints it: who asks what, in which shape."),
    ] = None,
    slo: Annotated[
        Path | None,
        typer.Option(help="The objectives, a YAML file, as loadtest/slo.yaml. Default: no verdict."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a value of the plan, as in shape.users=50; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: a new one in loadtest/results.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with the API key. Default: $OPENAI_API_KEY.", show_default=False)
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Locust processes on this machine; each uses one core.")
    ] = 1,
    web: Annotated[
        str | None, typer.Option(help="host:port of Locust's web UI, which then starts and stops the test.")
    ] = None,
    watch: Annotated[
        list[str] | None,
        typer.Option(help="Address of a gateway's /metrics, to watch its memory and files; repeatable."),
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(help="host:port of /metrics for Prometheus while the test runs.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="The target's settings document; its hash goes into the results.")
    ] = None,
) -> None:
    """Run a load test, and write report.html, report.png, run.json and metrics.prom.

    Users speak server-sent events, as OpenAI's SDK does: chat, Responses and tool calls, in conversations
    that share their beginnings. Measured by effort: time to first token, time between tokens, end to end,
    tokens a second, errors. The shape is steady, ramp, spike, step, or knee, which finds the highest load at
    which every objective holds. Exit status: 0 all objectives held, 1 some did not, 2 the plan is wrong, 3
    the target does not answer.

      loadtest run --set shape.users=20 --set shape.seconds=60 --slo loadtest/slo.yaml

      loadtest run --plan loadtest/plans/knee.yaml --slo loadtest/slo.yaml

      loadtest run --web 127.0.0.1:8089
    """
    from loadtest.live import options, results, start  # noqa: PLC0415 - imports that cost time
    from loadtest.live.plan import PlanError  # noqa: PLC0415
    from loadtest.live.report import show  # noqa: PLC0415

    if not url.startswith(("http://", "https://")):
        fail("give --url http://…/v1, or set OPENAI_BASE_URL as the demo says", USAGE)
    key = key_file.read_text().strip() if key_file else os.environ.get(options.KEY_VARIABLE, "")
    if not key:
        fail(f"give --key-file, or set {options.KEY_VARIABLE} as the demo says", USAGE)
    folder = out or options.RESULTS / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    command = start.Command(
        base_url=url.rstrip("/"),
        key=key,
        out=folder,
        plan=plan,
        slo=slo,
        changes=tuple(changes or ()),
        settings=settings,
        watch=tuple(watch or ()),
        metrics_listen=metrics_listen,
        processes=processes,
        web=web,
    )
    try:
        options.check(plan, command.changes, slo)
        status = start.run(command)
    except PlanError as error:
        fail(str(error), USAGE)
    except start.UnreachableError as error:
        fail(str(error), UNREACHABLE)
    if (folder / results.NAME).exists():
        show(results.load(folder), Console(width=max(Console().width, 140)))
        typer.echo(f"{folder}/report.html")
    raise typer.Exit(status)


@app.command()
def plan(
    path: Annotated[Path | None, typer.Argument(help="A plan. Default: the built-in one.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value, as in shape.users=50; repeatable.")
    ] = None,
) -> None:
    """Print a plan with every value and what it means: what `loadtest run --plan` takes."""
    from loadtest.live import plan as plans  # noqa: PLC0415 - imports that cost time
    from loadtest.live import plan_text  # noqa: PLC0415

    try:
        typer.echo(plan_text.text(plans.load(path, changes or ())), nl=False)
    except plans.PlanError as error:
        fail(str(error), USAGE)


@app.command()
def report(
    folder: Folder,
    slo: Annotated[Path | None, typer.Option(help="Judge by these objectives instead of its own.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a run again and write its report anew, by the same objectives or by others."""
    from loadtest.live import report as reports  # noqa: PLC0415 - imports that cost time
    from loadtest.live.plan import PlanError  # noqa: PLC0415
    from loadtest.live.slo import load  # noqa: PLC0415

    try:
        found = _load(folder, None if slo is None else load(slo))
    except PlanError as error:
        fail(str(error), USAGE)
    reports.write(found, folder)
    if as_json:
        print_json(found.document())
    else:
        reports.show(found, Console(width=max(Console().width, 140)))
        typer.echo(f"{folder}/report.html")
    raise typer.Exit(0 if found.held else FINDING)


@app.command()
def compare(
    first: Folder,
    second: Folder,
    tolerance: Annotated[float, typer.Option(min=0, help="Share by which a figure may be worse.")] = 0.1,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: which times and error shares of the second are better or worse, beyond chance.

    The interval is 95 % by bootstrap. Exit status 1: something is worse by more than the tolerance.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from loadtest.live import compare as comparing  # noqa: PLC0415 - imports that cost time

    one, two = _load(first), _load(second)
    found = [*comparing.changes(one, two), *comparing.errors(one, two)]
    worse = [change for change in found if change.worse(tolerance)]
    if as_json:
        print_json([{**asdict(change), "worse": change in worse} for change in found])
        raise typer.Exit(FINDING if worse else 0)
    console = Console(width=max(Console().width, 120))
    for difference in comparing.differences(one, two):
        console.print(f"[yellow]not the same:[/yellow] {difference}", highlight=False)
    table = Table(title=f"{first.name} and {second.name}")
    for column in ("effort", "figure", "first", "second", "ratio (95 %)", ""):
        table.add_column(column, justify="left" if column in ("effort", "figure") else "right")
    for change in found:
        word = "worse" if change in worse else "better" if change.better(tolerance) else ""
        ratio = f"{change.ratio:.2f} ({change.low:.2f} to {change.high:.2f})"
        table.add_row(change.effort, change.name, f"{change.first:.4g}", f"{change.second:.4g}", ratio, word)
    console.print(table)
    typer.echo(f"{len(worse)} of {len(found)} figures are worse by more than {tolerance:.0%}")
    raise typer.Exit(FINDING if worse else 0)


def _load(folder: Path, objectives: "Objectives | None" = None) -> "Run":
    """Read a run's folder, or leave and say why not."""
    from loadtest.live import results  # noqa: PLC0415 - imports that cost time

    try:
        return results.load(folder, objectives)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"{folder} is no whole run: {error}", USAGE)
