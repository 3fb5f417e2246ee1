"""Make a bundle from a recipe: copy what belongs in, refuse what does not, seal it."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster import vocabulary
from cluster.serving.checkpoint import CheckpointError, require_checkpoint
from cluster.vocabulary import VocabularyError
from deploy.bundle import choice, inventory, sbom, transfer
from deploy.bundle.archives import Archive
from deploy.bundle.errors import BundleError
from deploy.bundle.inventory import Package
from deploy.bundle.manifest import Image, Manifest
from deploy.bundle.recipe import BuildRecipe, ImageRecipe, ModelRecipe, Recipe
from deploy.bundle.seal import Progress, seal
from deploy.bundle.sources import DirectorySource, source_at
from deploy.bundle.stock import Stock

IMAGES = "images.txt"
"""The images by digest, one on each line."""


def create(
    recipe: Recipe,
    base: Path,
    root: Path,
    key: Ed25519PrivateKey,
    *,
    now: datetime,
    progress: Progress,
    sleep: transfer.Sleep = time.sleep,
) -> Manifest:
    """Make or finish the bundle ``root``; the recipe's paths are relative to ``base``.

    Raises `BundleError`.
    """
    with _told_by_path(root):
        stock = Stock(root, progress, sleep)
        stock.begin()
        _chart(stock, base / recipe.chart)
        _vocabulary(stock, base / recipe.vocabulary)
        _files(stock, "Licences", [base / path for path in recipe.licences], "licences")
        for name, build in recipe.builds.items():
            _build(stock, name, base, build, base / recipe.vocabulary)
        for name, model in recipe.models.items():
            _model(stock, name, base, model)
        images = {name: _image(stock, name, base, image, now) for name, image in recipe.images.items()}
        stock.write(IMAGES, "".join(sorted(f"{image.reference}\n" for image in images.values())))
        stock.end()
    return seal(
        root,
        key,
        product=version("gpt-oss-cluster"),
        created=now.isoformat(timespec="seconds"),
        images=images,
        models=tuple(recipe.models),
        progress=progress,
    )


def _chart(stock: Stock, chart: Path) -> None:
    """Copy a packed chart, or each file of a chart's directory."""
    if chart.is_file():
        _files(stock, "Chart", [chart], "chart")
        return
    if not (chart / "Chart.yaml").is_file():
        raise BundleError(f"{chart}: no chart: Chart.yaml is missing")
    names = [str(file.relative_to(chart)) for file in sorted(chart.rglob("*")) if file.is_file()]
    stock.take("Chart", DirectorySource(chart), names, f"chart/{chart.resolve().name}")


def _vocabulary(stock: Stock, folder: Path) -> None:
    """Copy the Harmony vocabulary, if it is the published one."""
    try:
        vocabulary.check(folder)
    except VocabularyError as error:
        raise BundleError(str(error)) from error
    stock.take("Vocabulary", DirectorySource(folder), [vocabulary.FILE_NAME], "vocabulary")


def _files(stock: Stock, title: str, paths: Sequence[Path], folder: str) -> None:
    """Copy single files."""
    for path in paths:
        stock.take(title, DirectorySource(path.parent), [path.name], folder)


def _file(stock: Stock, path: Path, folder: str, *, name: str) -> None:
    """Copy a file under another name."""
    stock.write(f"{folder}/{name}", path.read_text())


def _build(stock: Stock, image: str, base: Path, recipe: BuildRecipe, vocabulary_folder: Path) -> None:
    """Copy the context that an image is built in: one folder, and nothing of it is anywhere else."""
    folder = f"build/{image}"
    _wheels(stock, image, base / recipe.lock, base / recipe.wheels)
    _file(stock, base / recipe.lock, folder, name="requirements.lock")
    _file(stock, base / recipe.dockerfile, folder, name="Dockerfile")
    _files(stock, "Project", [base / recipe.project], f"{folder}/project")
    if recipe.debs is not None:
        debs = sorted((base / recipe.debs).glob("*.deb"))
        if not debs:
            raise BundleError(f"{base / recipe.debs}: no .deb files: see `debs` in docs/airgap.md")
        names = [path.name for path in debs]
        stock.take(
            f"Debian packages of {image}", DirectorySource(base / recipe.debs), names, f"{folder}/debs"
        )
    if recipe.vocabulary:
        source = DirectorySource(vocabulary_folder)
        stock.take("Vocabulary", source, [vocabulary.FILE_NAME], f"{folder}/vocabulary")


def _wheels(stock: Stock, image: str, lock: Path, folder: Path) -> None:
    """Copy the wheels that a lock asks for; every pin must have one."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    stock.progress.begin(f"Hashing wheels of {image}", sum(path.stat().st_size for path in paths))
    found = {path.name: transfer.sha256(path, stock.progress) for path in paths}
    chosen, missing = choice.wheels(lock.read_text(), found)
    if missing:
        named = ", ".join(f"{pin.name}=={pin.version}" for pin in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise BundleError(
            f"{folder}: no file with a hash of {lock.name} for {named}{more}: "
            f"run pip download --require-hashes -r {lock} --dest {folder}"
        )
    stock.take(f"Wheels of {image}", DirectorySource(folder), chosen, f"build/{image}/wheels")


def _model(stock: Stock, name: str, base: Path, recipe: ModelRecipe) -> None:
    """Copy what vLLM needs of a model's repository, and its licence."""
    source = source_at(
        recipe.source if "://" in recipe.source else str(base / recipe.source),
        ca_file=base / recipe.ca_file if recipe.ca_file else None,
        token_file=base / recipe.token_file if recipe.token_file else None,
    )
    sums = choice.sums((base / recipe.sums).read_text()) if recipe.sums else {}
    folder, index = f"models/{name}", None
    if stock.has(source, choice.INDEX):
        stock.take(f"{name}: index", source, [choice.INDEX], folder, sums)
        index = _json(stock.root / folder / choice.INDEX)
    optional = [one for one in choice.OPTIONAL if stock.has(source, one)]
    stock.take(name, source, [*choice.REQUIRED, *optional, *choice.weights(index)], folder, sums)
    try:
        require_checkpoint(stock.root / folder)
    except CheckpointError as error:
        raise BundleError(str(error)) from error


def _image(stock: Stock, name: str, base: Path, recipe: ImageRecipe, now: datetime) -> Image:
    """Copy an image's archive, and write its SBOM."""
    archive, keeps_digest, packages = None, True, list[Package]()
    if recipe.archive is not None:
        path = base / recipe.archive
        archive = f"images/{name}/{path.name}"
        keeps_digest, packages = _inspect(path, recipe.reference, stock.progress)
        _files(stock, f"Image {name}", [path], f"images/{name}")
    elif recipe.lock is not None:
        packages = inventory.of_lock((base / recipe.lock).read_text())
    listed = f"sbom/{name}.cdx.json" if packages else None
    if listed:
        stock.write(listed, sbom.document(name, recipe.reference, packages, now=now))
    return Image(reference=recipe.reference, archive=archive, keeps_digest=keeps_digest, sbom=listed)


def _inspect(path: Path, reference: str, progress: Progress) -> tuple[bool, list[Package]]:
    """Return whether an archive's image keeps its digest, and what is in it. Raises `BundleError`."""
    progress.begin(f"Looking into {path.name}", path.stat().st_size)
    with Archive(path) as archive:
        archive.require_whole(progress)
        digests, wanted = archive.digests(), reference.partition("@")[2]
        if digests and wanted not in digests:
            raise BundleError(f"{path}: holds {', '.join(sorted(digests))}, not {wanted}: save that image")
        return bool(digests), inventory.of_archive(archive)


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise BundleError(f"{path}: no JSON: copy it again") from error
    return found if isinstance(found, dict) else {}


@contextmanager
def _told_by_path(root: Path) -> Iterator[None]:
    """Make a system's error one of ours, with the path in it."""
    try:
        yield
    except OSError as error:
        raise BundleError(f"{error.filename or root}: {error.strerror or error}") from error
