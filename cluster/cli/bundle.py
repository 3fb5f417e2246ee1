"""Commands on the air-gap bundle: ``bundle keygen|create|verify|load|ready``."""

import shlex
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli.common import FINDING, UNREACHABLE, JsonOption, fail, print_json
from cluster.serving.checkpoint import CheckpointError, require_checkpoint, require_marked

if TYPE_CHECKING:
    from deploy.bundle.errors import BundleError
    from deploy.bundle.manifest import Manifest
    from deploy.bundle.registry import Push

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
        _fail(error)


@app.command()
def create(
    recipe: Annotated[Path, typer.Argument(help="What the bundle is made of, YAML (docs/airgap.md).")],
    bundle: Annotated[Path, typer.Argument(help="The directory to make; an unfinished one is gone on with.")],
    signing_key: Annotated[Path, typer.Option(help="The private ed25519 key, PEM (bundle keygen).")],
    json: JsonOption = False,
) -> None:
    """Make a bundle, where there is internet. Interrupted, the same command goes on where it was."""
    from deploy.bundle import create as creation  # noqa: PLC0415 - CycloneDX costs a start-up
    from deploy.bundle import progress, signing  # noqa: PLC0415
    from deploy.bundle import recipe as recipes  # noqa: PLC0415
    from deploy.bundle.errors import BundleError  # noqa: PLC0415

    try:
        key = signing.read_private(signing_key)
        document = recipes.read(recipe)
        with progress.for_console(Console(stderr=True)) as shown:
            manifest = creation.create(
                document, recipe.parent, bundle, key, now=datetime.now(UTC), progress=shown
            )
    except BundleError as error:
        _fail(error)
    _tell(bundle, manifest, signing.fingerprint(key.public_key()), json=json)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's directory.")],
    public_key: PublicKeyOption,
    json: JsonOption = False,
) -> None:
    """Say whether a bundle is what its maker signed: every byte, nothing missing, nothing extra."""
    from deploy.bundle import progress, seal, signing  # noqa: PLC0415 - cryptography costs a start-up
    from deploy.bundle.errors import BundleError  # noqa: PLC0415

    try:
        key = signing.read_public(public_key)
        with progress.for_console(Console(stderr=True)) as shown:
            manifest, findings = seal.verify(bundle, key, shown)
    except BundleError as error:
        if json:
            print_json({"ok": False, "findings": [{"path": str(bundle), "problem": str(error), "mend": ""}]})
            raise typer.Exit(FINDING) from error
        _fail(error)
    if findings:
        if json:
            listed = [{"path": one.path, "problem": one.problem, "mend": one.mend} for one in findings]
            print_json({"ok": False, "findings": listed})
            raise typer.Exit(FINDING)
        fail("\n".join([f"{bundle}: {len(findings)} finding(s)", *(f"  {one}" for one in findings)]))
    _tell(bundle, manifest, signing.fingerprint(key), json=json)


@app.command()
def load(
    source: Annotated[
        str, typer.Argument(help="The bundle: a directory, or an http(s) address of the same tree.")
    ],
    public_key: PublicKeyOption,
    models: Annotated[
        Path | None, typer.Option(help="Model directory to load into; each model gets a folder in it.")
    ] = None,
    model: ModelOption = None,
    registry: Annotated[
        str | None, typer.Option(help="Registry for the images, as global.imageRegistry has it.")
    ] = None,
    push: Annotated[
        bool, typer.Option("--push", help="Run the commands for the registry instead of printing them.")
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificates that the address is trusted by, PEM.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with a bearer token for the address.")] = None,
    json: JsonOption = False,
) -> None:
    """Put a bundle's models into a directory, and its images into a registry: checked, instant when done.

    With --models alone this is what the chart's prefetch Job runs.
    """
    from deploy.bundle import load as loading  # noqa: PLC0415 - cryptography costs a start-up
    from deploy.bundle import progress, signing  # noqa: PLC0415
    from deploy.bundle import registry as registries  # noqa: PLC0415
    from deploy.bundle.errors import BundleError  # noqa: PLC0415
    from deploy.bundle.sources import source_at  # noqa: PLC0415

    if models is None and registry is None:
        raise typer.BadParameter("name --models, --registry, or both")
    try:
        key = signing.read_public(public_key)
        origin = source_at(source, ca_file=ca_file, token_file=token_file)
        done, steps = [], list["Push"]()
        if registry is not None:
            steps = registries.pushes(loading.read_manifest(origin, key)[0], Path(source), registry)
        if models is not None:
            with progress.for_console(Console(stderr=True)) as shown:
                done = loading.load(origin, models, key, wanted=model or (), progress=shown)
    except BundleError as error:
        _fail(error)
    if json:
        loaded = [
            {"model": one.model, "path": str(one.path), "what": one.what, "bytes": one.size} for one in done
        ]
        images = [{"image": one.image, "command": one.command, "note": one.note} for one in steps]
        print_json({"models": loaded, "images": images})
    else:
        for one in done:
            typer.echo(f"{one.model}: {one.what}, {one.size / 2**30:.2f} GiB in {one.path}")
    _push(steps, run=push, quiet=json)


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
        raise typer.Exit(FINDING if problem else 0)
    if problem:
        fail(problem)


def _problem(folders: list[Path]) -> str:
    try:
        for folder in folders:
            require_marked(folder)
            require_checkpoint(folder)
    except CheckpointError as error:
        return str(error)
    return ""


def _push(steps: "list[Push]", *, run: bool, quiet: bool) -> None:
    """Print the commands that bring images into the registry, or run them."""
    from deploy.bundle.registry import TOOL  # noqa: PLC0415

    if run and steps and shutil.which(TOOL) is None:
        fail(f"{TOOL} is not installed: install it, or run the commands without --push elsewhere")
    for step in steps:
        if step.note:
            Console(stderr=True).print(f"{step.image}: {step.note}", highlight=False, soft_wrap=True)
        if step.command and run and subprocess.run(step.command, check=False).returncode != 0:
            fail(f"{step.image}: `{shlex.join(step.command)}` failed: log in to the registry, then again")
        if step.command and not run and not quiet:
            typer.echo(shlex.join(step.command))


def _tell(bundle: Path, manifest: "Manifest", signer: str, *, json: bool) -> None:
    parts: dict[str, list[int]] = {}
    for path, entry in manifest.files.items():
        folder = "/".join(path.split("/")[: 2 if path.startswith(("models/", "build/")) else 1])
        parts.setdefault(folder, []).append(entry.size)
    if json:
        sizes = {part: {"files": len(found), "bytes": sum(found)} for part, found in parts.items()}
        print_json({"ok": True, "signed_by": signer, "created": manifest.created, "parts": sizes})
        return
    table = Table("part", "files", "size")
    for part, found in parts.items():
        table.add_row(part, str(len(found)), f"{sum(found) / 2**20:,.1f} MiB")
    Console().print(table)
    typer.echo(f"{bundle} is whole.\nProduct {manifest.product}, made {manifest.created}\nSigned by {signer}")


def _fail(error: "BundleError") -> NoReturn:
    from deploy.bundle.errors import UnreachableError  # noqa: PLC0415

    fail(str(error), UNREACHABLE if isinstance(error, UnreachableError) else FINDING)
