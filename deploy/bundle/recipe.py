"""What a bundle is made of: one YAML document, each path in it relative to the document's own folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from deploy.bundle.errors import BundleError
from deploy.bundle.manifest import Name, Reference, Strict


class ImageRecipe(Strict):
    """One image that the chart needs."""

    reference: Reference
    archive: Path | None = None
    """A tar file of ``skopeo copy … oci-archive:``, ``docker save`` or a build. None: the site mirrors it."""
    lock: Path | None = None
    """Its lock file: what its SBOM lists where there is no archive to look into."""


class ModelRecipe(Strict):
    """One model."""

    source: str
    """A directory, or the http(s) address below which its files are."""
    sums: Path | None = None
    """Lines of ``sha256sum``, from a party other than the mirror: files that they name must agree."""
    ca_file: Path | None = None
    """Certificates that the address is trusted by, PEM."""
    token_file: Path | None = None
    """File with a bearer token for the address."""


class BuildRecipe(Strict):
    """What one image is built from, without a network."""

    dockerfile: Path
    lock: Path
    """Every pin in it must have a wheel with one of its hashes."""
    wheels: Path
    """Folder made with ``pip download --require-hashes -r LOCK --dest FOLDER``."""
    project: Path
    """This project's own wheel: ``pip wheel --no-deps --wheel-dir FOLDER .``."""
    debs: Path | None = None
    """Folder of Debian packages that the image needs."""
    vocabulary: bool = False
    """Whether the Harmony vocabulary is baked in."""


class Recipe(Strict):
    """The whole document."""

    version: Literal[1]
    chart: Path
    """The chart's directory, or a packed chart."""
    images: Mapping[Name, ImageRecipe]
    models: Mapping[Name, ModelRecipe]
    vocabulary: Path
    """Folder of ``o200k_base.tiktoken``."""
    builds: Mapping[Name, BuildRecipe] = {}
    licences: tuple[Path, ...] = ()
    """Texts beside those that models bring: this product's, and those of what the images hold."""


def read(path: Path) -> Recipe:
    """Read a recipe. Raises `BundleError` with every mistake in it."""
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise BundleError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        mistakes = [
            f"  {'.'.join(map(str, one['loc'])) or 'document'}: {one['msg']}" for one in error.errors()
        ]
        raise BundleError("\n".join([f"{path}: {len(mistakes)} mistake(s)", *mistakes])) from error
