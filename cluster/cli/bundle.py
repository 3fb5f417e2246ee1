"""Commands on the air-gap bundle: ``bundle keygen|load|ready``."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from cluster.cli.common import FINDING, UNREACHABLE, JsonOption, fail, print_json
from cluster.serving.checkpoint import CheckpointError, require_checkpoint, require_marked

if TYPE_CHECKING:
    from deploy.bundle.errors import BundleError
    from deploy.bundle.sources import Source

app = typer.Typer(
    help="Everything that a site without internet needs, in one signed directory.", no_args_is_help=True
)

PublicKeyOption = Annotated[
    Path, typer.Option("--public-key", help="The maker's ed25519 key, PEM. Never take it from the bundle.")
]
ModelOption = Annotated[
    list[str] | None, typer.Option("--model", help="A model's name; repeat for more. Default: all.")
]


@app.command()
def keygen(
    directory: Annotated[Path, typer.Argument(help="Folder to write the two keys to.")],
) -> None:
    """Make a pair of keys to sign bundles with, and print the public one's fingerprint."""
    from deploy.bundle import signing  # noqa: PLC0415 - cryptography costs a start-up
    from deploy.bundle.errors import BundleError  # noqa: PLC0415

    try:
        private, public = signing.make_keys(directory)
        typer.echo(f"Keep secret:  {private}\nGive out:     {public}")
        typer.echo(f"Fingerprint:  {signing.fingerprint(signing.read_public(public))}")
    except BundleError as error:
        fail(str(error))


@app.command()
def load(
    source: Annotated[
        str, typer.Argument(help="The bundle: a directory, or an http(s) address of the same tree.")
    ],
    models: Annotated[Path, typer.Option(help="Model directory; each model gets a folder in it.")],
    public_key: PublicKeyOption,
    model: ModelOption = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificates that the address is trusted by, PEM.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with a bearer token for the address.")] = None,
    json: JsonOption = False,
) -> None:
    """Put a bundle's models into the model directory: resumable, checked by hash, instant when done.

    This is what the chart's prefetch Job runs.
    """
    from deploy.bundle import load as loading  # noqa: PLC0415 - cryptography costs a start-up
    from deploy.bundle import progress, signing  # noqa: PLC0415
    from deploy.bundle.errors import BundleError  # noqa: PLC0415

    try:
        key = signing.read_public(public_key)
        with progress.for_console(Console(stderr=True)) as shown:
            done = loading.load(
                _source(source, ca_file, token_file), models, key, wanted=model or (), progress=shown
            )
    except BundleError as error:
        _fail(error)
    if json:
        print_json(
            [{"model": one.model, "path": str(one.path), "what": one.what, "bytes": one.size} for one in done]
        )
        return
    for one in done:
        typer.echo(f"{one.model}: {one.what}, {one.size / 2**30:.2f} GiB in {one.path}")


@app.command()
def ready(
    folders: Annotated[list[Path], typer.Argument(help="Models' folders, as models.<name>.source has them.")],
    wait_s: Annotated[float, typer.Option(help="How long to wait for a load that is not done yet.")] = 0,
    json: JsonOption = False,
) -> None:
    """Say whether models are loaded and whole, by their markers; exit status 1 names what is missing."""
    end, told = time.monotonic() + wait_s, ""
    while (problem := _problem(folders)) and time.monotonic() < end:
        if problem != told:
            Console(stderr=True).print(problem, highlight=False, soft_wrap=True)
        told = problem
        time.sleep(min(2.0, max(0.0, end - time.monotonic())))
    if json:
        print_json({"ready": not problem, "problem": problem})
    if problem:
        if json:
            raise typer.Exit(FINDING)
        fail(problem)


def _problem(folders: list[Path]) -> str:
    try:
        for folder in folders:
            require_marked(folder)
            require_checkpoint(folder)
    except CheckpointError as error:
        return str(error)
    return ""


def _source(where: str, ca_file: Path | None, token_file: Path | None) -> "Source":
    from deploy.bundle.errors import SourceError  # noqa: PLC0415
    from deploy.bundle.sources import DirectorySource, HttpSource  # noqa: PLC0415

    if "://" not in where:
        return DirectorySource(Path(where))
    try:
        headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}
    except OSError as error:
        raise SourceError(f"{token_file}: {error.strerror}") from error
    return HttpSource(where, ca_file=ca_file, headers=headers)


def _fail(error: "BundleError") -> NoReturn:
    from deploy.bundle.errors import UnreachableError  # noqa: PLC0415

    fail(str(error), UNREACHABLE if isinstance(error, UnreachableError) else FINDING)
