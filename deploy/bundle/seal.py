"""Seal a bundle with a signed manifest of every file in it, and see whether a seal is whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cluster.stores import files as durable
from deploy.bundle import signing, transfer
from deploy.bundle.errors import BundleError
from deploy.bundle.manifest import MANIFEST, SIGNATURE, Entry, Finding, Image, Manifest, differences, parse


class Progress(transfer.Progress, Protocol):
    """Who is told how far the work is."""

    def begin(self, title: str, total_bytes: int) -> None:
        """Begin a stretch of work."""
        ...


def seal(
    root: Path,
    key: Ed25519PrivateKey,
    *,
    product: str,
    created: str,
    images: Mapping[str, Image],
    models: Sequence[str],
    progress: Progress,
) -> Manifest:
    """Hash every file below ``root``, and write the manifest and its signature. Raises `BundleError`."""
    unseal(root)
    found = read_tree(root, progress)
    files = {path: entry for path, entry in sorted(found.items()) if entry is not None}
    if links := sorted(found.keys() - files.keys()):
        raise BundleError(f"{root / links[0]}: a link or no regular file: put the file itself there")
    manifest = Manifest(
        product=product, created=created, images=dict(images), models=tuple(sorted(models)), files=files
    )
    data = manifest.as_bytes()
    try:
        for name, content in ((MANIFEST, data), (SIGNATURE, key.sign(data))):
            durable.replace(root / name, content)
            (root / name).chmod(0o644)
    except OSError as error:
        raise BundleError(f"{root}: {error.strerror or error}") from error
    return manifest


def unseal(root: Path) -> None:
    """Take the seal off before anything changes: an unfinished bundle must not verify."""
    for name in (SIGNATURE, MANIFEST):
        (root / name).unlink(missing_ok=True)


def verify(root: Path, key: Ed25519PublicKey, progress: Progress) -> tuple[Manifest, list[Finding]]:
    """Return a bundle's manifest, and what differs from it. Raises `BundleError`, also for a wrong signer."""
    try:
        data, signature = ((root / name).read_bytes() for name in (MANIFEST, SIGNATURE))
    except OSError as error:
        raise BundleError(
            f"{error.filename}: {error.strerror}: no finished bundle; run `bundle create` to its end"
        ) from error
    signing.require_signed(data, signature, key, origin=str(root / MANIFEST))
    manifest = parse(data, origin=str(root / MANIFEST))
    return manifest, differences(manifest, read_tree(root, progress))


def read_tree(root: Path, progress: Progress) -> dict[str, Entry | None]:
    """Return what each file below ``root`` is, less the seal; None is no regular file.

    Raises `BundleError`.
    """
    try:
        paths = [path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir()]
        named = {str(path.relative_to(root)): path for path in paths}
        regular = {name: path for name, path in named.items() if path.is_file() and not path.is_symlink()}
        progress.begin("Hashing", sum(path.stat().st_size for path in regular.values()))
        return {
            name: _entry(path, progress) if name in regular else None
            for name, path in named.items()
            if name not in (MANIFEST, SIGNATURE)
        }
    except OSError as error:
        raise BundleError(f"{error.filename or root}: {error.strerror or error}") from error


def _entry(path: Path, progress: Progress) -> Entry:
    return Entry(sha256=transfer.sha256(path, progress), size=path.stat().st_size)
