"""How a bundle's images get into a site's registry: one command of skopeo for each. Pure.

skopeo needs no daemon and keeps digests, which is what the chart names images by.
"""

from dataclasses import dataclass
from pathlib import Path

from deploy.bundle.manifest import Image, Manifest

TOOL = "skopeo"


@dataclass(frozen=True, slots=True)
class Push:
    """What brings one image into the registry."""

    image: str
    command: tuple[str, ...]
    """Empty: the bundle has no archive of it."""
    note: str
    """What a person has to do besides; empty for nothing."""


def pushes(manifest: Manifest, root: Path, registry: str) -> list[Push]:
    """Return what has to be run for each image of the bundle in ``root``."""
    return [_push(name, image, root, registry.rstrip("/")) for name, image in manifest.images.items()]


def _push(name: str, image: Image, root: Path, registry: str) -> Push:
    if image.archive is None:
        return Push(name, (), f"the bundle has no archive: mirror {image.reference} to {registry}")
    target = f"docker://{registry}/{_path(image.reference)}:{_tag(image.reference)}"
    if image.keeps_digest:
        source = f"oci-archive:{root / image.archive}"
        return Push(name, (TOOL, "copy", "--all", "--preserve-digests", source, target), "")
    note = (
        f"its archive is of docker save's older form, so it gets another digest than {image.reference}: "
        f"set images.{name}.digest to the one that `{TOOL} inspect {target}` tells"
    )
    return Push(name, (TOOL, "copy", f"docker-archive:{root / image.archive}", target), note)


def _path(reference: str) -> str:
    """Return an image's name without its registry and tag, as `global.imageRegistry` goes before it."""
    name = reference.partition("@")[0]
    first, _, rest = name.partition("/")
    path = rest if rest and ("." in first or ":" in first or first == "localhost") else name
    return path.rsplit(":", 1)[0] if ":" in path.rsplit("/", 1)[-1] else path


def _tag(reference: str) -> str:
    """Return a tag that no other content gets: registries remove what no tag holds."""
    return f"sha256-{reference.partition('@sha256:')[2][:12]}"
