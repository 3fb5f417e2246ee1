"""What simulations came to, kept in a file from run to run while nothing that they depend on has changed."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from loadtest.fleet.measures import Group, Measures
from loadtest.fleet.simulation import Setup

_ROOT = Path(__file__).parents[2]
_SOURCES = ("cluster/core", "cluster/serving", "loadtest/fleet")
"""Whose code a simulation runs, and whose change may change its outcome."""


class Memory:
    """A file of measures by setup: a run that was interrupted goes on where it was."""

    def __init__(self, folder: Path, sources: Iterable[Path] | None = None) -> None:
        """Use a file in ``folder`` that only the same ``sources`` share, without a word the product's."""
        paths = sources or (path for name in _SOURCES for path in (_ROOT / name).rglob("*.py"))
        digest = hashlib.sha256()
        for path in sorted(paths):
            digest.update(path.read_bytes())
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"measures-{digest.hexdigest()[:16]}.jsonl"
        for path in folder.glob("measures-*.jsonl"):
            if path != self._path:  # of code that is no more
                path.unlink()
        self._known = dict(map(_parse, self._path.read_text().splitlines())) if self._path.exists() else {}

    def recall(self, setup: Setup) -> Measures | None:
        """Return what ``setup`` came to, None where nobody has simulated it."""
        return self._known.get(repr(setup))

    def keep(self, setup: Setup, found: Measures) -> None:
        """Write down what ``setup`` came to."""
        self._known[repr(setup)] = found
        with self._path.open("a") as file:
            file.write(json.dumps({"setup": repr(setup), "measures": asdict(found)}) + "\n")


def _parse(line: str) -> tuple[str, Measures]:
    said = json.loads(line)
    found = said["measures"]
    efforts, tenants = (
        {name: Group(**one) for name, one in found[of].items()} for of in ("by_effort", "by_tenant")
    )
    return said["setup"], Measures(efforts, tenants, found["generated_per_s"])
