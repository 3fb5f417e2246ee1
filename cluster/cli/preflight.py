"""The command ``preflight``: is this cluster ready for an install, and if not, what to do."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cluster.cli.cluster_options import ContextOption, KubeconfigOption, NamespaceOption, reached
from cluster.cli.common import FINDING, USAGE, JsonOption, fail, print_json

if TYPE_CHECKING:
    from deploy.gpus import Stock
    from deploy.preflight import Finding
    from deploy.site import Site
    from deploy.wishes import Wishes

COLOURS = {"error": "red", "warning": "yellow", "unknown": "cyan"}


def preflight(
    manifests: Annotated[
        Path | None,
        typer.Option(help="What `helm template` prints, or - for standard input.", allow_dash=True),
    ] = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Look at a cluster before an install: what is missing, what the API would refuse, and what to do.

    With --manifests it looks for what these objects need, and has the server try each, Ray's pods too
    (dryRun=All); nothing is written. Exit status 1 for errors; for less it is 0.
    """
    from deploy import preflight as checks  # noqa: PLC0415 - imports that cost time
    from deploy import site as sites  # noqa: PLC0415
    from deploy import wishes as wanted  # noqa: PLC0415

    wishes = wanted.Wishes()
    if manifests is not None:
        try:
            wishes = wanted.parse(_text(manifests))
        except wanted.ManifestError as error:
            fail(f"{manifests}: {error}", USAGE)
    with reached(kubeconfig, context, namespace) as api:
        site = sites.read(api, wishes)
    found = checks.decide(site, wishes)
    ok = not any(finding.level == "error" for finding in found)
    if json:
        print_json(
            {
                "ok": ok,
                "kubernetes": site.version,
                "kuberay": checks.operator_versions(site),
                "gpus": [asdict(each) for each in _gpus(site)],
                "namespace": site.namespace,
                "objects": len(wishes.objects),
                "findings": [asdict(finding) for finding in found],
            }
        )
    else:
        _show(site, wishes, found)
    raise typer.Exit(0 if ok else FINDING)


def _text(manifests: Path) -> str:
    if str(manifests) == "-":
        return sys.stdin.read()
    try:
        return manifests.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{manifests}: {error.strerror}", USAGE)


def _show(site: "Site", wishes: "Wishes", found: "tuple[Finding, ...]") -> None:
    from deploy.preflight import operator_versions  # noqa: PLC0415 - an import that costs time

    console = Console()
    tried = f"{len(wishes.objects)} objects tried" if wishes.objects else "no manifests given, nothing tried"
    kuberay = ", ".join(operator_versions(site)) or "not found"
    gpus = ", ".join(f"{each.total} x {each.product} ({each.free} free)" for each in _gpus(site)) or "none"
    console.print(f"Kubernetes {site.version}, KubeRay {kuberay}. GPUs: {gpus}.", highlight=False)
    console.print(f"Namespace {site.namespace}; {tried}.", highlight=False)
    if found:
        table = Table(
            "", "finding", Column("what", overflow="fold"), Column("mend", overflow="fold"), show_lines=True
        )
        for each in found:
            colour = COLOURS[each.level]
            table.add_row(
                f"[{colour}]{each.level}[/{colour}]", each.code, escape(each.what), escape(each.mend)
            )
        console.print(table)
    else:
        console.print("[green]Ready for an install.[/green]")


def _gpus(site: "Site") -> "list[Stock]":
    from deploy.gpus import stock  # noqa: PLC0415 - an import that costs time

    return stock(site.nodes or (), site.pods or ())
