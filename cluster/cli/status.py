"""The command ``status``: a release on one screen, and why it does not come up."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from cluster.cli.cluster_options import (
    DEFAULT_RELEASE,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    ReleaseOption,
    reached,
)
from cluster.cli.common import FINDING, JsonOption, print_json

if TYPE_CHECKING:
    from deploy.api import Api
    from deploy.status import Status

LOOK_S = 5.0
"""Seconds between two looks while ``--wait`` waits."""


def status(
    release: ReleaseOption = DEFAULT_RELEASE,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until it is ready, or stalls in a way that waiting does not mend.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that --wait waits.")] = 1800,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Show a release: RayService, applications, replicas by GPU, gateway, limit store, weights, and stalls.

    Exit status 0 if it is ready, else 1.
    """
    with reached(kubeconfig, context, namespace) as api:
        found = _wait(api, release, timeout, quiet=json) if wait else _look(api, release)
    if json:
        print_json({**asdict(found), "progress": found.progress})
    else:
        Console().print(screen(found))
    raise typer.Exit(0 if found.ready else FINDING)


def _look(api: "Api", release: str) -> "Status":
    from deploy import release as releases  # noqa: PLC0415 - an import that costs time
    from deploy import status as states  # noqa: PLC0415

    return states.decide(releases.read(api, release, _now()))


def _wait(api: "Api", release: str, timeout_s: float, *, quiet: bool) -> "Status":
    """Look until there is nothing to wait for, and show each look."""
    deadline = time.monotonic() + timeout_s
    with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
        while True:
            found = _look(api, release)
            left_s = deadline - time.monotonic()
            if found.settled or left_s <= 0:
                return found
            if not quiet:
                live.update(screen(found), refresh=True)
            time.sleep(min(LOOK_S, left_s))


def screen(found: "Status") -> Group:
    """Return one screen."""
    return Group(*_lines(found))


def _lines(found: "Status") -> Iterator[str | Table]:
    where = f"Release {found.release} in namespace {found.namespace}"
    if not found.installed:
        yield f"[red]{where}: not installed.[/red]"
    elif found.ready:
        yield f"[green]{where}: ready.[/green]"
    else:
        yield f"[yellow]{where}: not ready.[/yellow]"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=1.0, completed=found.progress, width=60), f"{found.progress:.0%} is up")
        yield bar
    for stall in found.stalls:
        yield f"[red]stall:[/red] {escape(str(stall))}" + ("" if stall.lasting else " (it may pass)")
    if found.outdated:
        yield (
            "[yellow]Ray's pods are of an older specification:[/yellow] gpt-oss-cluster drain --all replaces "
            "them (docs/operations.md)"
        )
    if found.installed:
        yield _service(found)
        yield _applications(found)
        yield _groups(found)
        yield _parts(found)
    for text in found.unread:
        yield f"[yellow]not read:[/yellow] {escape(text)}"


def _service(found: "Status") -> Table:
    late = "" if found.observed_generation >= found.generation else " (the operator has not seen it)"
    table = Table("RayService", "status", "reason", title=f"generation {found.generation}{late}")
    for each in found.conditions:
        table.add_row(
            each.kind, each.status, each.reason + ("" if each.current else " (of an older generation)")
        )
    return table


def _applications(found: "Status") -> Table:
    table = Table("application", "cluster", "status", "deployments")
    for each in found.applications:
        parts = ", ".join(f"{name} {state}" for name, state in each.deployments.items())
        table.add_row(each.name, each.side, each.status, escape(parts))
    return table


def _groups(found: "Status") -> Table:
    table = Table("worker group", "cluster", "GPU", "wanted", "running", "ready")
    for each in found.groups:
        gpu = f"{each.gpus_each} x {each.gpu or 'GPU'}" if each.gpus_each else "none"
        table.add_row(each.name, each.side, gpu, *map(str, (each.wanted, each.running, each.ready)))
    return table


def _parts(found: "Status") -> Table:
    table = Table("part", "ready", "state")
    for each in found.parts:
        table.add_row(each.name, "yes" if each.ready else "no", escape(each.told))
    return table


def _now() -> datetime:
    return datetime.now(UTC)
