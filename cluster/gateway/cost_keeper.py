"""Keeps what answers cost: true while they run, and over a restart of the gateway."""

import asyncio
import logging
from pathlib import Path
from typing import Any, NoReturn

import orjson

from cluster.core.cost import CostModel, SnapshotError
from cluster.core.cost_snapshot import write
from cluster.gateway.admission import Gate
from cluster.stores.snapshot import Snapshot

logger = logging.getLogger(__name__)

SWEEP_S = 2.0
"""How often running answers are looked at: engines tell at least as often how far they have come."""
SWEEPS_A_SAVE = 30
"""Sweeps between two snapshots: a crash forgets at most a minute."""
_AT_ONCE = 16
"""Entries of a snapshot that are written at once: a millisecond."""


class CostKeeper:
    """Teaches ``model`` by the answers inside ``gate``, and keeps it in a file; None: in none."""

    def __init__(self, model: CostModel, gate: Gate, path: Path | None) -> None:
        self.model, self._gate, self._path = model, gate, path
        self._snapshot = Snapshot(path)
        self._restore()

    async def follow(self) -> NoReturn:
        """Keep it until cancelled."""
        while True:
            for _ in range(SWEEPS_A_SAVE):
                await asyncio.sleep(SWEEP_S)
                self._gate.learn_so_far()
            await self._save_aside()

    def save(self) -> None:
        """Write the file, if there is one. A failure is logged: it matters at the next start only."""
        if self._path is not None:
            self._snapshot.save(orjson.dumps(self.model.snapshot()))

    async def _save_aside(self) -> None:
        """Do as `save`, without a moment in which nothing else can run for long."""
        if self._path is None:
            return
        entries: list[dict[str, Any]] = []
        for entry in self.model.entries():
            entries.append(entry)
            if len(entries) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await asyncio.to_thread(self._snapshot.save, orjson.dumps(write(entries)))

    def _restore(self) -> None:
        """Take over what the file holds; one that is none of ours is named in the log, and nothing else."""
        kept = self._snapshot.load()
        if kept is None:
            return
        try:
            self.model.restore(orjson.loads(kept[0]))
        except (orjson.JSONDecodeError, SnapshotError) as error:
            logger.error("%s: not what answers were learned to cost (%s); starting anew", self._path, error)
