"""Where a gateway's keys come from, as the settings say: an index of them, and what keeps it true."""

from collections.abc import Callable
from typing import NoReturn, Protocol

from cluster.settings import KeyDirectorySettings, KeySettings, RateLimits
from cluster.stores.key_files import KeyFiles
from cluster.stores.key_index import KeyIndex

Changed = Callable[[list[str]], None]
"""Told the names of entries that change after the first reading."""


class KeySource(Protocol):
    """Keeps a `KeyIndex` equal to where its records are kept."""

    async def follow(self) -> NoReturn:
        """Follow the records until cancelled; what fails is logged, and what is known stays in force."""


def open_keys(
    keys: KeySettings, pepper: bytes, *, defaults: RateLimits, clock: Callable[[], float], changed: Changed
) -> tuple[KeyIndex, KeySource]:
    """Return an index of keys, and what keeps it true once it is followed. Files are read at once.

    ``defaults`` are the limits of a tenant that sets none; ``clock`` returns seconds of the epoch.
    """
    if isinstance(keys, KeyDirectorySettings):
        index = KeyIndex(pepper, defaults=defaults, clock=clock, origin=str(keys.path))
        files = KeyFiles(keys.path, index, changed)
        files.refresh()
        return index, files
    from cluster.stores.secret_watch import SecretWatch  # noqa: PLC0415 - its import takes most of a second

    index = KeyIndex(pepper, defaults=defaults, clock=clock, origin=f"Secret {keys.secret}")
    return index, SecretWatch(keys, index, changed)
