"""Which release in which cluster: the options that the commands on Kubernetes share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cluster.cli.common import FINDING, UNREACHABLE, fail

if TYPE_CHECKING:
    from deploy.api import Api

ReleaseOption = Annotated[str, typer.Option("--release", "-r", help="The Helm release.")]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Its namespace; by default the pod's or context's."),
]
KubeconfigOption = Annotated[
    Path | None, typer.Option(help="Kubeconfig; by default the pod's account, else what kubectl uses.")
]
ContextOption = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
DEFAULT_RELEASE = "gpt-oss-cluster"


@contextmanager
def reached(kubeconfig: Path | None, context: str | None, namespace: str | None) -> Iterator["Api"]:
    """Give the API that the options name; its refusals end the command with a clear message.

    Each trouble that is sat out is told on standard error, so that no command is silent while it waits.
    """
    from deploy.api import Api, ApiError, UnreachableError  # noqa: PLC0415 - its import takes most of a second

    told = Console(stderr=True)
    try:
        yield Api.connect(
            kubeconfig,
            context,
            namespace,
            told=lambda text: told.print(
                f"[yellow]waiting:[/yellow] {text}", highlight=False, soft_wrap=True
            ),
        )
    except UnreachableError as error:
        fail(str(error), UNREACHABLE)
    except ApiError as error:
        fail(str(error), FINDING)
