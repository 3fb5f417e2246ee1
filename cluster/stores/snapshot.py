"""The last good state of what is fetched over a network, on disk, for a start while that is away."""

import logging
from pathlib import Path

from cluster.stores import files

logger = logging.getLogger(__name__)


class Snapshot:
    """One file; its modification time is when its content was last known to be right.

    Without a path nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def save(self, data: bytes) -> None:
        """Keep ``data``. A file that cannot be written is logged: it matters at the next start only."""
        if self._path is None:
            return
        try:
            files.replace(self._path, data)
        except OSError as error:
            logger.error("%s: the snapshot cannot be written: %s", self._path, error.strerror)

    def load(self) -> tuple[bytes, float] | None:
        """Return what was kept and when, in seconds of the epoch; None when there is nothing."""
        if self._path is None:
            return None
        try:
            return self._path.read_bytes(), self._path.stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.error("%s: the snapshot cannot be read: %s", self._path, error.strerror)
            return None
