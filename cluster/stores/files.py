"""Files that are replaced as a whole: readers see the old one or the new one, also after a crash."""

import os
import tempfile
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of a file, or where there is none; only its owner may read it.

    Raises ``OSError``.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make what was renamed or removed in a directory last. Raises ``OSError``."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
