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
    out: Annotated[Path, typer.Option(help="Folder for the plot of a scenario.")] = CACHE / "simulate",
) -> None:
    """Simulate a fleet of GPUs under the product's own routing and admission, beside other policies.

    Replicas follow published curves of gpt-oss-120b; two processes work for one to ten minutes.
    """
    from loadtest.fleet.scenarios import SCENARIOS  # noqa: PLC0415 - imports that cost time

    if scenario == "list":
        for name, each in SCENARIOS.items():
            typer.echo(f"{name:<12} {each.about}")
        typer.echo(f"{'acceptance':<12} the bars: exit status 0 only if all of them hold")
    elif scenario == "acceptance":
        _acceptance(seeds)
    elif scenario in SCENARIOS:
        _study(scenario, seeds, out)
    else:
        fail(f"no scenario {scenario!r}; there are: {', '.join(SCENARIOS)}", USAGE)


def _acceptance(seeds: int) -> None:
    from cluster.demo.progress import Progress  # noqa: PLC0415 - imports that cost time
    from loadtest.fleet import acceptance, show  # noqa: PLC0415
    from loadtest.fleet.lab import Lab  # noqa: PLC0415

    with Progress(Console(stderr=True)) as progress, Lab(progress.doing) as lab:
        checks = []
        for check in acceptance.check_all(lab, seeds):
            checks.append(check)
            progress.done(f"bar {check.bar}, {check.name}: {check.over.median:.3f}")
    Console(width=max(Console().width, 160)).print(show.verdicts(checks))
    typer.echo(acceptance.last_line(checks))
    raise typer.Exit(0 if all(check.held for check in checks) else FINDING)


def _study(name: str, seeds: int, out: Path) -> None:
    from cluster.demo.progress import Progress  # noqa: PLC0415 - imports that cost time
    from loadtest.fleet import show  # noqa: PLC0415
    from loadtest.fleet.lab import Lab  # noqa: PLC0415
    from loadtest.fleet.scenarios import SCENARIOS  # noqa: PLC0415

    with Progress(Console(stderr=True)) as progress, Lab(progress.doing) as lab:
        cases = SCENARIOS[name].cases(lab, seeds)
        found = iter(lab.measure(setup for case in cases for setup in case.setups))
        results = [(case, [next(found) for _ in case.setups]) for case in cases]
    console = Console(width=max(Console().width, 180))
    for table in show.tables(results):
        console.print(table)
    if importlib.util.find_spec("matplotlib") is None:
        typer.echo("no plot: it takes matplotlib, which `pip install gpt-oss-cluster[loadtest]` brings")
        return
    from loadtest.fleet import plot  # noqa: PLC0415 - not everywhere there

    out.mkdir(parents=True, exist_ok=True)
    plot.save(results, out / f"{name}.png")
    typer.echo(f"{out / name}.png")
