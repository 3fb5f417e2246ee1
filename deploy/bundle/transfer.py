"""Copy one file so that it appears whole or not at all, and an interrupted copy goes on where it was.

What has arrived lies beside the target as ``.NAME.TAG.part``. The tag stands for the version of the source,
so that the halves of two versions never become one file.
"""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol, TypeVar

from deploy.bundle.errors import BundleError, SourceError, UnreachableError
from deploy.bundle.manifest import Entry
from deploy.bundle.sources import CHUNK_BYTES, Source, Stat

FAILURES = 6
"""How often in a row a source may fail without a byte; the waits between come to about a minute."""

T = TypeVar("T")
Sleep = Callable[[float], None]


class Progress(Protocol):
    """Who is told how far the work is."""

    def advance(self, count_bytes: int) -> None:
        """Count bytes that are done, or, below 0, that have to be done again."""
        ...


def copy(
    source: Source,
    name: str,
    target: Path,
    *,
    progress: Progress,
    stat: Stat | None = None,
    expected: Entry | None = None,
    sleep: Sleep = time.sleep,
) -> Entry:
    """Copy a file to ``target``, going on where an interrupted copy stopped; return what it is.

    Raises `BundleError`: `SourceError` if the file is not ``expected``, `UnreachableError` after `FAILURES`.
    """
    where = source.where(name)
    stat = stat or patiently(lambda: source.stat(name), sleep)
    if expected is not None and stat.size not in (None, expected.size):
        raise SourceError(f"{where}: has {stat.size} bytes, not {expected.size}: copy the bundle again")
    try:
        path = _part_of(target, expected.sha256 if expected else f"{where} {stat}")
        resumed = path.exists()
        with path.open("a+b") as file:
            part = _Part(file, progress)
            entry = part.fill(source, name, stat, sleep)
            if expected is not None and entry != expected and resumed:  # the fault may lie in the old half
                part.restart()
                entry = part.fill(source, name, stat, sleep)
        if expected is not None and entry != expected:
            path.unlink()
            told = f"has SHA-256 {entry.sha256}, not {expected.sha256}"
            raise SourceError(f"{where}: {told}: copy the bundle again")
        path.chmod(0o644)
        path.replace(target)
    except OSError as error:
        raise BundleError(f"{target}: {error.strerror or error}") from error
    return entry


def sha256(path: Path, progress: Progress | None = None) -> str:
    """Return a file's SHA-256, hex. Raises ``OSError``."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            if progress is not None:
                progress.advance(len(chunk))
    return digest.hexdigest()


def _part_of(target: Path, version: str) -> Path:
    """Return where a version's bytes gather, having removed those of other versions."""
    tag = hashlib.sha256(version.encode()).hexdigest()[:12]
    part = target.with_name(f".{target.name}.{tag}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    for other in target.parent.glob(f".{target.name}.*.part"):
        if other != part:
            other.unlink()
    return part


class _Part:
    """The bytes of a file that have arrived, and their hash."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file, self._progress = file, progress
        self._digest = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            self._count(chunk)

    def fill(self, source: Source, name: str, stat: Stat, sleep: Sleep) -> Entry:
        """Bring it to its whole length, and to the disk."""
        if stat.size is not None and self._file.tell() > stat.size:
            self.restart()
        patiently(lambda: self._read_on(source, name, stat), sleep, reached=self._file.tell)
        self._file.flush()
        os.fsync(self._file.fileno())
        return Entry(sha256=self._digest.hexdigest(), size=self._file.tell())

    def restart(self) -> None:
        """Forget what has arrived."""
        self._progress.advance(-self._file.tell())
        self._file.truncate(0)
        self._file.seek(0)
        self._digest = hashlib.sha256()

    def _read_on(self, source: Source, name: str, stat: Stat) -> None:
        reached = self._file.tell()
        if reached == stat.size:
            return
        with source.open(name, reached, stat.version) as opened:
            if opened.start != reached:
                self.restart()
            for chunk in opened.chunks:
                self._file.write(chunk)
                self._count(chunk)
        reached = self._file.tell()
        if stat.size is not None and reached != stat.size:
            raise UnreachableError(
                f"{source.where(name)}: the connection ended after {reached} of {stat.size} bytes"
            )

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._progress.advance(len(chunk))


def patiently(act: Callable[[], T], sleep: Sleep, reached: Callable[[], int] = lambda: 0) -> T:
    """Do it again, after longer and longer waits, until it has failed `FAILURES` times without progress."""
    failures, furthest = 0, reached()
    while True:
        try:
            return act()
        except UnreachableError:
            failures = 1 if reached() > furthest else failures + 1
            furthest = max(furthest, reached())
            if failures == FAILURES:
                raise
            sleep(2**failures)
