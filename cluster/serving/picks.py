"""What a router sent to a replica since its last report, which the report does not show yet."""

from collections import deque

MOST_PICKS = 4096
"""Picks kept for a replica that never reports; a reporting one keeps half a second's worth."""


class Picks:
    """What this router sent to one replica since the replica's last statistics."""

    __slots__ = ("_recent", "requests", "tokens")

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float, float]] = deque()
        self.requests = 0.0
        """How many they are, the peers' share included."""
        self.tokens = 0.0
        """Their expected output tokens."""

    def add(self, at_s: float, requests: float, tokens: float) -> None:
        """Remember a pick at ``at_s`` (epoch seconds); the oldest of more than `MOST_PICKS` is forgotten."""
        self._recent.append((at_s, requests, tokens))
        self.requests += requests
        self.tokens += tokens
        if len(self._recent) > MOST_PICKS:
            self._forget()

    def drop_until(self, stats_at_s: float) -> None:
        """Forget the picks that statistics of ``stats_at_s`` include."""
        while self._recent and self._recent[0][0] <= stats_at_s:
            self._forget()

    def _forget(self) -> None:
        _, requests, tokens = self._recent.popleft()
        self.requests -= requests
        self.tokens -= tokens
        if not self._recent:
            self.requests = self.tokens = 0.0  # rounding, summed up
