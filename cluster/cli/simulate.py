"""The command ``simulate``: a fleet in simulated time, and the bars that it has to hold."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.cli.common import CACHE, FINDING, USAGE, fail


def simulate(
    scenario: Annotated[str, typer.Argument(help="A scenario, `acceptance`, or `list`.")],
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of each simulation with other chance.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder for plots, tables and past results.")] = CACHE
    / "simulate",
) -> None:
    """Simulate a fleet of GPUs under the product's own routing and admission, beside other policies.

    Replicas follow published curves of gpt-oss-120b. One process for each core works for one to ten minutes;
    a run that was interrupted goes on where it was.
    """
    from loadtest.fleet.scenarios import SCENARIOS  # noqa: PLC0415 - imports that cost time

    if scenario == "list":
        for name, each in SCENARIOS.items():
            typer.echo(f"{name:<12} {each.about}")
        typer.echo(f"{'acceptance':<12} the bars: exit status 0 only if all of them hold")
    elif scenario == "acceptance":
        _acceptance(seeds, out)
    elif scenario in SCENARIOS:
        _study(scenario, seeds, out)
    else:
        fail(f"no scenario {scenario!r}; there are: {', '.join(SCENARIOS)}", USAGE)


def _acceptance(seeds: int, out: Path) -> None:
    from cluster.demo.progress import Progress  # noqa: PLC0415 - imports that cost time
    from loadtest.fleet import acceptance, show  # noqa: PLC0415
    from loadtest.fleet.lab import Lab  # noqa: PLC0415
    from loadtest.fleet.memory import Memory  # noqa: PLC0415

    with Progress(Console(stderr=True)) as progress, Lab(progress.doing, memory=Memory(out)) as lab:
        checks = []
        for check in acceptance.check_all(lab, seeds):
            checks.append(check)
            progress.done(f"bar {check.bar}, {check.name}: {check.over.median:.3f}")
    table = show.verdicts(checks)
    Console(width=max(Console().width, 160)).print(table)
    with (out / "acceptance.txt").open("w") as file:
        Console(width=160, file=file).print(table, acceptance.last_line(checks))
    if _can_plot():
        from loadtest.fleet import plot  # noqa: PLC0415 - not everywhere there

        plot.save_checks(checks, out / "acceptance.png")
    typer.echo(f"{out / 'acceptance.txt'}")
    typer.echo(acceptance.last_line(checks))
    raise typer.Exit(0 if all(check.held for check in checks) else FINDING)


def _study(name: str, seeds: int, out: Path) -> None:
    from cluster.demo.progress import Progress  # noqa: PLC0415 - imports that cost time
    from loadtest.fleet import show  # noqa: PLC0415
    from loadtest.fleet.lab import Lab  # noqa: PLC0415
    from loadtest.fleet.memory import Memory  # noqa: PLC0415
    from loadtest.fleet.scenarios import SCENARIOS  # noqa: PLC0415

    with Progress(Console(stderr=True)) as progress, Lab(progress.doing, memory=Memory(out)) as lab:
        cases = SCENARIOS[name].cases(lab, seeds)
        found = iter(lab.measure(setup for case in cases for setup in case.setups))
        results = [(case, [next(found) for _ in case.setups]) for case in cases]
    console = Console(width=max(Console().width, 180))
    for table in show.tables(results):
        console.print(table)
    if not _can_plot():
        return
    from loadtest.fleet import plot  # noqa: PLC0415 - not everywhere there

    plot.save(results, out / f"{name}.png")
    typer.echo(f"{out / name}.png")


def _can_plot() -> bool:
    """Tell whether the library for plots is there, and the user where it is not."""
    found = importlib.util.find_spec("matplotlib") is not None
    if not found:
        typer.echo("no plot: it takes matplotlib, which `pip install gpt-oss-cluster[loadtest]` brings")
    return found
