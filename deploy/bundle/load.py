"""Put models from a bundle into the model directory: whole, checked, and only once.

A model gathers in ``.loading-NAME`` beside its place and is renamed into it when complete, with the marker
inside that `cluster.serving.checkpoint` reads. What is there already costs one look at sizes.
"""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cluster.serving import checkpoint
from cluster.serving.checkpoint import LOADING, MARKER, CheckpointError
from cluster.stores import files as durable
from deploy.bundle import signing, transfer
from deploy.bundle.errors import BundleError
from deploy.bundle.manifest import MANIFEST, SIGNATURE, Entry, Manifest, parse
from deploy.bundle.sources import Source

GIB = 2**30
MOST_BYTES = 16 << 20
"""No manifest is longer than this."""


class Progress(transfer.Progress, Protocol):
    """Who is told how far the loading is."""

    def begin(self, title: str, total_bytes: int) -> None:
        """Begin a stretch of work."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of one model."""

    model: str
    path: Path
    what: Literal["loaded", "adopted", "already there"]
    """Adopted: the right files lay there without a marker, and have been read and marked."""
    size: int
    """Bytes."""


def read_manifest(
    source: Source, key: Ed25519PublicKey, sleep: transfer.Sleep = time.sleep
) -> tuple[Manifest, str]:
    """Return a bundle's manifest, if its signature is that of ``key``, and its SHA-256.

    Raises `BundleError`.
    """
    data, signature = (
        transfer.patiently(functools.partial(_small, source, name), sleep) for name in (MANIFEST, SIGNATURE)
    )
    signing.require_signed(data, signature, key, origin=source.where(MANIFEST))
    return parse(data, origin=source.where(MANIFEST)), hashlib.sha256(data).hexdigest()


def load(
    source: Source,
    models: Path,
    key: Ed25519PublicKey,
    *,
    wanted: Sequence[str] = (),
    progress: Progress,
    sleep: transfer.Sleep = time.sleep,
) -> list[Loaded]:
    """Put the wanted models, by default all of a bundle, into ``models``. Raises `BundleError`."""
    manifest, digest = read_manifest(source, key, sleep)
    origin = {"manifest_sha256": digest, "signed_by": signing.fingerprint(key)}
    chosen = {name: manifest.of_model(name) for name in wanted or manifest.models}
    loading = _Loading(source, origin, progress, sleep)
    try:
        models.mkdir(parents=True, exist_ok=True)
        return [loading.model(models / name, files) for name, files in chosen.items()]
    except OSError as error:
        raise BundleError(f"{error.filename or models}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Loading:
    """One run of `load`."""

    source: Source
    origin: Mapping[str, str]
    progress: Progress
    sleep: transfer.Sleep

    def model(self, target: Path, files: Mapping[str, Entry]) -> Loaded:
        """Put one model in its place."""
        size = sum(entry.size for entry in files.values())
        with _alone(target):
            if _is_there(target, files):
                return Loaded(target.name, target, "already there", size)
            self.progress.begin(target.name, size)
            if target.exists() and not (target / MARKER).exists():
                self._adopt(target, files)
                return Loaded(target.name, target, "adopted", size)
            staging = target.with_name(LOADING + target.name)
            _require_room(target.parent, size - _held(staging))
            for name, entry in files.items():
                self._bring(target.name, name, staging / name, entry)
            self._mark(staging, files)
            _put_in_place(staging, target)
        return Loaded(target.name, target, "loaded", size)

    def _bring(self, model: str, name: str, path: Path, entry: Entry) -> None:
        """Copy a file, unless an earlier run has: perhaps one of another bundle, so its hash decides."""
        if path.is_file() and path.stat().st_size == entry.size:
            if transfer.sha256(path, self.progress) == entry.sha256:
                return
            self.progress.advance(-entry.size)
        inside = f"models/{model}/{name}"
        transfer.copy(self.source, inside, path, expected=entry, progress=self.progress, sleep=self.sleep)

    def _adopt(self, target: Path, files: Mapping[str, Entry]) -> None:
        """Mark what somebody copied by hand, if it is the model; never remove what is not ours."""
        for name, entry in files.items():
            path = target / name
            if not path.is_file() or transfer.sha256(path, self.progress) != entry.sha256:
                raise BundleError(
                    f"{path}: not the bundle's file, and `load` did not put it there: move {target} away"
                )
        self._mark(target, files)

    def _mark(self, folder: Path, files: Mapping[str, Entry]) -> None:
        """Leave the marker, once the files make a checkpoint that a replica would load."""
        strays = {
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        } - files.keys()
        for stray in strays if folder.name.startswith(LOADING) else ():
            (folder / stray).unlink()
        try:
            checkpoint.require_checkpoint(folder)
        except CheckpointError as error:
            raise BundleError(f"the bundle's model is no good: {error}") from error
        listed = {name: entry.model_dump() for name, entry in files.items()}
        marker = {"model": folder.name.removeprefix(LOADING), **self.origin, "files": listed}
        durable.replace(folder / MARKER, json.dumps(marker, indent=1).encode())
        (folder / MARKER).chmod(0o644)


def _small(source: Source, name: str) -> bytes:
    data = bytearray()
    with source.open(name, 0, None) as opened:
        for chunk in opened.chunks:
            data += chunk
            if len(data) > MOST_BYTES:
                raise BundleError(f"{source.where(name)}: longer than {MOST_BYTES >> 20} MiB: no manifest")
    return bytes(data)


def _is_there(target: Path, files: Mapping[str, Entry]) -> bool:
    """Return whether the marker tells of these very files, and all have their size."""
    marked = checkpoint.read_marker(target)
    wanted = {name: entry.model_dump() for name, entry in files.items()}
    if marked is None or marked.get("files") != wanted:
        return False
    try:
        checkpoint.require_marked(target)
    except CheckpointError:
        return False
    return True


def _held(staging: Path) -> int:
    return sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())


def _require_room(directory: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        told = f"{free / GIB:.1f} GiB free, {needed_bytes / GIB:.1f} GiB needed"
        raise BundleError(f"{directory}: {told}: make room, or take a larger volume")


def _put_in_place(staging: Path, target: Path) -> None:
    """Rename the new folder into its place, the old one out first; replicas keep open what they read."""
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staging.rename(target)
    durable.sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the model's lock, which ends with the process. Raises `BundleError` while another has it."""
    handle = os.open(target.with_name(f".lock-{target.name}"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BundleError(f"{target}: another process is loading it: let it finish") from error
    finally:
        os.close(handle)
