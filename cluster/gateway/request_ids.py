"""Ids of requests: random UUIDs, drawn from the system many at a time, as each draw is a system call."""

import os

_DRAWN = 256
"""Ids drawn at once."""
_BYTES = 16


class RequestIds:
    """Gives UUIDs of version 4."""

    def __init__(self) -> None:
        self._drawn, self._at = b"", 0

    def __call__(self) -> str:
        """Return an id that nobody can guess."""
        if self._at == len(self._drawn):
            self._drawn, self._at = os.urandom(_DRAWN * _BYTES), 0
        digits = self._drawn[self._at : self._at + _BYTES].hex()
        self._at += _BYTES
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
