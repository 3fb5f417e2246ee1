"""The command ``simulate``: a fleet in simulated time, and the bars that it has to hold."""

from typing import Annotated

import typer
from rich.console import Console

from cluster.cli.common import FINDING, USAGE, fail


def simulate(
    scenario: Annotated[str, typer.Argument(help="A scenario, `acceptance`, or `list`.")],
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of each simulation with other chance.")] = 3,
) -> None:
    """Simulate a fleet of GPUs under the product's own routing and admission, beside other policies.

    Replicas follow published curves of gpt-oss-120b; two processes work for one to ten minutes.
    """
    from cluster.demo.progress import Progress  # noqa: PLC0415 - imports that cost time
    from loadtest.fleet import acceptance, show  # noqa: PLC0415
    from loadtest.fleet.lab import Lab  # noqa: PLC0415
    from loadtest.fleet.scenarios import SCENARIOS  # noqa: PLC0415

    if scenario == "list":
        for name, each in SCENARIOS.items():
            typer.echo(f"{name:<12} {each.about}")
        typer.echo(f"{'acceptance':<12} the bars: exit status 0 only if all of them hold")
        return
    if scenario == "acceptance":
        with Progress(Console(stderr=True)) as progress, Lab(progress.doing) as lab:
            checks = []
            for check in acceptance.check_all(lab, seeds):
                checks.append(check)
                progress.done(f"bar {check.bar}, {check.name}: {check.over.median:.3f}")
        Console(width=max(Console().width, 160)).print(show.verdicts(checks))
        typer.echo(acceptance.last_line(checks))
        raise typer.Exit(0 if all(check.held for check in checks) else FINDING)
    if scenario not in SCENARIOS:
        fail(f"no scenario {scenario!r}; there are: {', '.join(SCENARIOS)}", USAGE)
    with Progress(Console(stderr=True)) as progress, Lab(progress.doing) as lab:
        cases = SCENARIOS[scenario].cases(lab, seeds)
        found = iter(lab.measure(setup for case in cases for setup in case.setups))
        results = [(case, [next(found) for _ in case.setups]) for case in cases]
    console = Console(width=max(Console().width, 180))
    for table in show.tables(results):
        console.print(table)
