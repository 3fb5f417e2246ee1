"""The command ``simulate``: a fleet in simulated time, and the bars that it has to hold."""

from typing import Annotated

import typer
from rich.console import Console

from cluster.cli.common import USAGE, fail


def simulate(
    scenario: Annotated[str, typer.Argument(help="A scenario (`list` shows them).")],
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of each simulation with other chance.")] = 3,
) -> None:
    """Simulate a fleet of GPUs under the product's own routing and admission, beside other policies.

    Replicas follow published curves of gpt-oss-120b; two processes work for one to ten minutes.
    """
    from cluster.demo.progress import Progress  # noqa: PLC0415 - imports that cost time
    from loadtest.fleet import show  # noqa: PLC0415
    from loadtest.fleet.lab import Lab  # noqa: PLC0415
    from loadtest.fleet.scenarios import SCENARIOS  # noqa: PLC0415

    if scenario == "list":
        for name, each in SCENARIOS.items():
            typer.echo(f"{name:<12} {each.about}")
        return
    if scenario not in SCENARIOS:
        fail(f"no scenario {scenario!r}; there are: {', '.join(SCENARIOS)}", USAGE)
    with Progress(Console(stderr=True)) as progress, Lab(progress.doing) as lab:
        cases = SCENARIOS[scenario].cases(lab, seeds)
        found = iter(lab.measure(setup for case in cases for setup in case.setups))
        results = [(case, [next(found) for _ in case.setups]) for case in cases]
    console = Console(width=max(Console().width, 180))
    for table in show.tables(results):
        console.print(table)
