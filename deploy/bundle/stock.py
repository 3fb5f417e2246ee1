"""A bundle while it is being filled: what is in it already, what belongs there, and what does not.

What was copied is kept as long as its source has the version that a note beside the bundle names
(``.NAME.copied.json``), so that an interrupted run goes on.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.stores import files as durable
from deploy.bundle import transfer
from deploy.bundle.errors import BundleError, MissingError
from deploy.bundle.manifest import MANIFEST
from deploy.bundle.seal import Progress, unseal
from deploy.bundle.sources import Source, Stat


class Stock:
    """The directory of a bundle that is being made."""

    def __init__(self, root: Path, progress: Progress, sleep: transfer.Sleep) -> None:
        self.root, self.progress, self._sleep = root, progress, sleep
        self._note = root.with_name(f".{root.name}.copied.json")
        self._copied: dict[str, str] = json.loads(self._note.read_bytes()) if self._note.is_file() else {}
        self._wanted: set[str] = set()

    def begin(self) -> None:
        """Take the seal off a bundle that is there; raise `BundleError` for a folder that is none."""
        ours = (self.root / MANIFEST).is_file() or self._note.is_file()
        if self.root.exists() and any(self.root.iterdir()) and not ours:
            raise BundleError(f"{self.root}: not empty, and no bundle: name a new folder")
        self.root.mkdir(parents=True, exist_ok=True)
        self._remember()
        unseal(self.root)

    def take(
        self,
        title: str,
        source: Source,
        names: Sequence[str],
        folder: str,
        sums: Mapping[str, str] | None = None,
    ) -> None:
        """Copy files into a folder of the bundle; those that ``sums`` names must have its SHA-256."""
        stats = {
            name: transfer.patiently(functools.partial(source.stat, name), self._sleep) for name in names
        }
        self.progress.begin(title, sum(stat.size or 0 for stat in stats.values()))
        for name, stat in stats.items():
            target = self._place(f"{folder}/{name}")
            found = self._take(source, name, stat, target)
            if sums and name in sums and sums[name] != (found or transfer.sha256(target)):
                target.unlink()
                raise BundleError(
                    f"{source.where(name)}: its SHA-256 is not {sums[name]}, as the sums have it"
                )

    def has(self, source: Source, name: str) -> bool:
        """Return whether a source has a file."""
        try:
            transfer.patiently(lambda: source.stat(name), self._sleep)
        except MissingError:
            return False
        return True

    def write(self, name: str, text: str) -> None:
        """Write a file of the bundle's own."""
        target = self._place(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(target, text.encode())
        target.chmod(0o644)

    def end(self) -> None:
        """Raise `BundleError` if something lies in the bundle that the recipe does not put there."""
        found = {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}
        if strays := sorted(found - self._wanted):
            more = f" and {len(strays) - 1} more" if len(strays) > 1 else ""
            raise BundleError(f"{self.root / strays[0]}{more}: not of this recipe: remove it")

    def _place(self, name: str) -> Path:
        self._wanted.add(name)
        return self.root / name

    def _take(self, source: Source, name: str, stat: Stat, target: Path) -> str | None:
        """Copy a file unless it is there; return its SHA-256 if it was copied."""
        path, tag = str(target.relative_to(self.root)), f"{source.where(name)} {stat}"
        if self._copied.get(path) == tag and stat.version and target.is_file():
            self.progress.advance(target.stat().st_size)
            return None
        self._copied.pop(path, None)
        entry = transfer.copy(source, name, target, stat=stat, progress=self.progress, sleep=self._sleep)
        self._copied[path] = tag
        self._remember()
        return entry.sha256

    def _remember(self) -> None:
        durable.replace(self._note, json.dumps(self._copied, indent=1, sort_keys=True).encode())
