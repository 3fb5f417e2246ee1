"""A vault for tests."""

import threading
from collections.abc import Callable

from cluster.stores.admin import Change
from cluster.stores.records import Entries


class MemoryVault:
    """The simplest `Vault`."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self) -> Entries:
        """Return all records."""
        return dict(self.entries)

    def change(self, act: Callable[[Entries], Change]) -> Change:
        """Apply ``act``."""
        with self._lock:
            change = act(self.read())
            for name, data in change.entries.items():
                if data is None:
                    del self.entries[name]
                else:
                    self.entries[name] = data
        return change
