"""What a bundle holds: every file with its size and SHA-256, and what differs from it. Pure.

A bundle is a directory, and the same tree behind a web server is the same bundle:

    manifest.json       this document       models/<name>/      what vLLM loads
    manifest.json.sig   its signature       vocabulary/         the Harmony vocabulary
    images.txt          images by digest    build/<image>/      what it is built from, offline
    images/             their archives      licences/           licence and usage policy
    chart/              the Helm chart      sbom/               a CycloneDX document for each image
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from deploy.bundle.errors import BundleError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"

_REFERENCE = re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}")


def _safe_path(path: str) -> str:
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is no path inside a bundle")
    return path


def _by_digest(reference: str) -> str:
    if not _REFERENCE.fullmatch(reference):
        raise ValueError(f"{reference!r} does not name an image by digest: NAME@sha256:<64 hex digits>")
    return reference


SafePath = Annotated[str, AfterValidator(_safe_path)]
"""A path inside a bundle: relative, with ``/``, and never out of it."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""The name of a model or an image: one path component."""
Reference = Annotated[str, AfterValidator(_by_digest)]
"""An image by digest."""


class Strict(BaseModel):
    """A frozen document in which an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(Strict):
    """What one file is."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    """Bytes."""


class Image(Strict):
    """One image that the chart needs."""

    reference: Reference
    archive: SafePath | None = None
    """Its archive in the bundle; None: the site mirrors it itself."""
    keeps_digest: bool = True
    """Whether a push of the archive gives the image the digest of ``reference``."""
    sbom: SafePath | None = None


class Manifest(Strict):
    """Everything in a bundle."""

    version: Literal[1] = 1
    product: str
    """Version of the product that the bundle is of."""
    created: str
    """When, in ISO 8601 and UTC."""
    images: Mapping[Name, Image] = {}
    models: tuple[Name, ...] = ()
    files: Mapping[SafePath, Entry]

    def of_model(self, model: str) -> dict[str, Entry]:
        """Return a model's files by their path below its folder. Raises `BundleError` for an unknown one."""
        if model not in self.models:
            held = ", ".join(self.models) or "none"
            raise BundleError(f"the bundle has no model {model}; it has {held}")
        folder = f"models/{model}/"
        return {
            path.removeprefix(folder): entry for path, entry in self.files.items() if path.startswith(folder)
        }

    def as_bytes(self) -> bytes:
        """Return the document as it is signed and stored."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def parse(data: bytes, *, origin: str) -> Manifest:
    """Read a manifest. Raises `BundleError`."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise BundleError(
            f"{origin}: no manifest that this version reads: {where}: {first['msg']}"
        ) from error


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a bundle, and its mend."""

    path: str
    problem: str
    mend: str

    def __str__(self) -> str:
        """Return it as one sentence."""
        return f"{self.path}: {self.problem}; {self.mend}"


def differences(manifest: Manifest, found: Mapping[str, Entry | None]) -> list[Finding]:
    """Return what differs between a manifest and the files that are there; None is no regular file."""
    findings = []
    for path in sorted(manifest.files.keys() | found.keys()):
        expected, actual = manifest.files.get(path), found.get(path)
        if path in found and actual is None:
            findings.append(Finding(path, "is a link or no regular file", "put the file itself there"))
        elif expected is None:
            findings.append(Finding(path, "is not in the manifest", f"remove it{_unfinished(path)}"))
        elif actual is None:
            findings.append(Finding(path, "is missing", "copy it again from where the bundle was made"))
        elif actual.size != expected.size:
            findings.append(
                Finding(
                    path,
                    f"has {actual.size} bytes, not {expected.size}",
                    "copy it again from where the bundle was made",
                )
            )
        elif actual.sha256 != expected.sha256:
            findings.append(
                Finding(
                    path,
                    f"has SHA-256 {actual.sha256}, not {expected.sha256}",
                    "copy it again from where the bundle was made",
                )
            )
    return findings


def _unfinished(path: str) -> str:
    """Say more of what an interrupted run left."""
    part = PurePosixPath(path).name.endswith(".part")
    return ", or run `bundle create` to its end: an interrupted one left it" if part else ""
