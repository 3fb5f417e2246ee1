"""The objects, with one growing version for all, their history, and the watches that follow it."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.kube.kinds import Kind
from tests.kube.selectors import Selection
from tests.kube.status import ApiError, Object, too_old

Key = tuple[str, str, str, str]
"""Group, plural, namespace and name."""


@dataclass(frozen=True)
class _Change:
    version: int
    kind: Kind
    old: Object | None
    new: Object
    deleted: bool


@dataclass(eq=False)
class Watch:
    """An open watch."""

    selection: Selection
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None
    events: "asyncio.Queue[Object | None]" = field(default_factory=asyncio.Queue)

    def send(self, event: Object | None) -> None:
        """Give it an event from any thread; None ends it."""
        self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Store:
    """Objects are never changed in place: a new version is a new object."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 1000
        self.watches: set[Watch] = set()
        self._objects: dict[Key, tuple[Kind, Object]] = {}
        self._history: deque[_Change] = deque()
        self._compacted = 0

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Return an object, None where there is none."""
        found = self._objects.get((kind.group, kind.plural, namespace or "", name))
        return found and found[1]

    def all(self) -> Iterator[tuple[Kind, Object]]:
        """Yield every object with its kind."""
        yield from list(self._objects.values())

    def chosen(self, selection: Selection) -> list[Object]:
        """Return what is selected, by namespace and name."""
        with self.lock:
            return [
                item
                for _, (kind, item) in sorted(self._objects.items(), key=_key)
                if selection.takes(kind, item)
            ]

    def put(self, kind: Kind, body: Object) -> Object:
        """Store an object under the next version and tell every watch; return it."""
        metadata = body["metadata"]
        key = (kind.group, kind.plural, metadata.get("namespace", ""), metadata["name"])
        with self.lock:
            _, old = self._objects.get(key, (kind, None))
            self.version += 1
            made = {**body, "metadata": {**metadata, "resourceVersion": str(self.version)}}
            self._objects[key] = (kind, made)
            self._tell(_Change(self.version, kind, old, made, deleted=False))
        return made

    def remove(self, kind: Kind, body: Object) -> Object:
        """Take an object away and tell every watch; return it as it was last."""
        metadata = body["metadata"]
        with self.lock:
            key = (kind.group, kind.plural, metadata.get("namespace", ""), metadata["name"])
            _, old = self._objects.pop(key)
            self.version += 1
            gone = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
            self._tell(_Change(self.version, kind, old, gone, deleted=True))
        return gone

    def compact(self) -> None:
        """Forget all history."""
        with self.lock:
            self._history.clear()
            self._compacted = self.version

    @property
    def compacted(self) -> int:
        """The oldest version that a watch may start from."""
        return self._compacted

    def open(self, watch: Watch, version: int) -> None:
        """Give a watch what came after a version, and from then on all that comes. Raises `ApiError`."""
        with self.lock:
            if version and version < self._compacted:
                raise too_old(version, self._compacted)
            missed = self._history if version else ()
            if not version:
                for item in self.chosen(watch.selection):
                    watch.send({"type": "ADDED", "object": item})
            for change in missed:
                if change.version > version and (event := _event(watch.selection, change)):
                    watch.send(event)
            self.watches.add(watch)

    def close(self, watch: Watch) -> None:
        """Tell a watch nothing more."""
        with self.lock:
            self.watches.discard(watch)

    def _tell(self, change: _Change) -> None:
        self._history.append(change)
        for watch in tuple(self.watches):  # others open and end meanwhile
            if event := _event(watch.selection, change):
                watch.send(event)


def error_event(error: ApiError) -> Object:
    """Return the event by which a watch is refused after it began."""
    return {"type": "ERROR", "object": error.status}


def _event(selection: Selection, change: _Change) -> Object | None:
    """Return what a watch sees of a change: an object that is selected no more is gone for it."""
    before, after = selection.takes(change.kind, change.old), selection.takes(change.kind, change.new)
    if change.deleted or (before and not after):
        return {"type": "DELETED", "object": change.new} if before else None
    if not after:
        return None
    return {"type": "MODIFIED" if before else "ADDED", "object": change.new}


def _key(entry: tuple[Key, Any]) -> Key:
    return entry[0]
