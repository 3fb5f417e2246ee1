"""The command ``drain``: take workers out without spare GPUs, after saying what is lost meanwhile."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.cli.cluster_options import (
    DEFAULT_RELEASE,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    ReleaseOption,
    reached,
)
from cluster.cli.common import FINDING, JsonOption, fail, print_json

if TYPE_CHECKING:
    from deploy.drain import Plan
    from deploy.release import Release


def drain(
    group: Annotated[
        str | None, typer.Argument(help="Worker group; `status` lists them.", show_default=False)
    ] = None,
    worker: Annotated[str | None, typer.Option(help="Only this pod.")] = None,
    node: Annotated[str | None, typer.Option(help="Only workers on this node.")] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Leave so many, and give the other GPUs to a waiting upgrade.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="End all workers, then build the Ray cluster anew."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be lost.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one step may take.")] = 7200,
    release: ReleaseOption = DEFAULT_RELEASE,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Restart workers one after the other, each once its streams have ended; or with --keep or --all, more.

    What is lost meanwhile is said first, and confirmed. Engine flags need no drain: helm upgrade changes them
    in place. --json prints the plan.
    """
    from deploy import release as releases  # noqa: PLC0415 - imports that cost time
    from deploy.draining import Drain, DrainStoppedError  # noqa: PLC0415

    _check(group, worker, node, keep, everything)
    errors = Console(stderr=True)

    def told(text: str) -> None:
        errors.print(f"{_now():%H:%M:%S} {escape(text)}", highlight=False, soft_wrap=True)

    with reached(kubeconfig, context, namespace) as api:
        plan = _plan(releases.read(api, release, _now()), group, worker, node, keep)
        if json:
            print_json({**asdict(plan), "outage": plan.outage})
        else:
            _show(plan)
        if dry_run:
            return
        if not yes and not typer.confirm("Begin?", err=True):
            fail("nothing was done", FINDING)
        try:
            Drain(api, release, told, timeout).run(plan)
        except DrainStoppedError as error:
            fail(str(error), FINDING)
    told("done")


def _check(
    group: str | None, worker: str | None, node: str | None, keep: int | None, everything: bool
) -> None:
    """Refuse options that contradict each other."""
    if everything and (group or worker or node or keep is not None):
        raise typer.BadParameter("--all goes with no group, worker, node or --keep")
    if not everything and not (group or worker or node):
        raise typer.BadParameter("name a worker group, --worker, --node or --all")
    if keep is not None and (not group or worker or node):
        raise typer.BadParameter("--keep goes with a worker group alone")


def _plan(
    found: "Release", group: str | None, worker: str | None, node: str | None, keep: int | None
) -> "Plan":
    from deploy import drain as plans  # noqa: PLC0415 - an import that costs time

    try:
        if keep is not None and group is not None:
            return plans.shrink(found, group, keep)
        if group or worker or node:
            return plans.restart(found, group, worker, node)
        return plans.rebuild(found)
    except plans.DrainError as error:
        fail(str(error), FINDING)


def _show(plan: "Plan") -> None:
    from deploy.objects import span  # noqa: PLC0415 - an import that costs time

    console = Console()
    table = Table("worker group", "GPU", "serve now", "serve meanwhile", "lost", "pools")
    for each in plan.losses:
        numbers = (str(each.serving), str(each.left), f"{each.percent} %")
        table.add_row(each.group, each.gpu, *numbers, ", ".join(each.pools))
    console.print(table)
    start = span(plan.start_s) if plan.start_s is not None else "unknown: none runs"
    times = len(plan.workers) if plan.kind == "restart" else 1
    console.print(
        f"{len(plan.workers)} workers, {'one after the other' if times > 1 else 'at once'}. Each may take "
        f"{span(plan.streams_s)} to end its streams; the longest start of those that run took {start}.",
        highlight=False,
    )
    if plan.outage:
        console.print(f"[red]Out meanwhile: {', '.join(plan.outage)}.[/red]")
    if not plan.returns:
        console.print("The node is cordoned: its workers are back once it takes pods again.")


def _now() -> datetime:
    return datetime.now(UTC)
