"""Tenants and keys in a directory: read again when it changes, and changed by administrative acts.

A mounted Kubernetes Secret has the same form, so `KeyFiles` follows it too: its entries are links into a
folder that the kubelet swaps.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from cluster.stores import files
from cluster.stores.admin import Change
from cluster.stores.key_index import KeyIndex
from cluster.stores.records import Entries, KeyStoreError, is_entry
from cluster.stores.troubles import Troubles

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a directory is looked at."""

_Stamp = tuple[int, int, int]
_LOCK = ".lock"


class KeyFiles:
    """Keeps a `KeyIndex` equal to a directory.

    ``changed`` is told the names of entries that change while it is followed.
    """

    def __init__(
        self, directory: Path, index: KeyIndex, changed: Callable[[list[str]], None] = lambda _names: None
    ) -> None:
        self._directory, self._index, self._changed = directory, index, changed
        self._stamps: dict[str, _Stamp] = {}
        self._entries: dict[str, bytes] = {}
        self._troubles = Troubles(logger)

    def refresh(self) -> list[str]:
        """Take over what has changed in the directory; return the names of changed entries.

        Cheap when nothing changed: one listing and one ``stat`` a file. A directory that cannot be listed,
        and a file that cannot be read, keep what was there, and are logged once.
        """
        try:
            stamps = _stamps(self._directory)
        except OSError as error:
            self._troubles.tell(
                str(self._directory), f"cannot be listed: {error.strerror}; nothing is changed"
            )
            return []
        self._troubles.over(str(self._directory))
        if stamps == self._stamps and self._index.ready:
            self._index.confirm()
            return []
        entries = {name: data for name, data in self._entries.items() if name in stamps}
        for name in [name for name, stamp in stamps.items() if self._stamps.get(name) != stamp]:
            if not self._read(name, entries):
                del stamps[name]  # read it again next time
        self._stamps, self._entries = stamps, entries
        return self._index.update(entries)

    async def follow(self) -> NoReturn:
        """Look at the directory every ``LOOK_S`` seconds until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if changed := await asyncio.to_thread(self.refresh):
                self._changed(changed)

    def _read(self, name: str, entries: dict[str, bytes]) -> bool:
        path = self._directory / name
        try:
            entries[name] = path.read_bytes()
        except OSError as error:
            reason = f"cannot be read: {error.strerror}; the last good version stays in force"
            self._troubles.tell(str(path), reason)
            return False
        self._troubles.over(str(path))
        return True


class KeyDirectory:
    """The `Vault` on a directory: whole files, 0600, renamed into place, under the directory's lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> Entries:
        """Return all records; none when the directory is not there yet. Raises `KeyStoreError`."""
        try:
            paths = sorted(path for path in self._directory.iterdir() if is_entry(path.name))
            return {path.name: path.read_bytes() for path in paths}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise KeyStoreError(f"{error.filename}: cannot be read: {error.strerror}") from error

    def change(self, act: Callable[[Entries], Change]) -> Change:
        """Apply ``act`` to the records as they are, with no other act between. Raises `KeyStoreError`."""
        with _locked(self._directory):
            change = act(self.read())
            for name, data in change.entries.items():
                _write(self._directory / name, data)
        return change


def _stamps(directory: Path) -> dict[str, _Stamp]:
    """Return what tells a changed file from an unchanged one, by name. Other files are left alone."""
    with os.scandir(directory) as items:
        found = [item for item in items if is_entry(item.name)]
    stamps = {}
    for item in found:
        try:
            stat = item.stat()
        except FileNotFoundError:  # removed since the listing
            continue
        stamps[item.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return stamps


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two acts at once do not undo each other."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise KeyStoreError(f"{directory}: cannot be written to: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, data: bytes | None) -> None:
    """Write a file as a whole, or remove it for None. Raises `KeyStoreError`."""
    try:
        if data is None:
            path.unlink()
            files.sync(path.parent)
        else:
            files.replace(path, data)
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be written: {error.strerror}") from error
