"""How a request can end, and the tokens it cost.

Every request ends in exactly one `Outcome`: the metric label, the log field and the key of the error table.
"""

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """The one way a request ended."""

    COMPLETED = "completed"
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    BUDGET_SPENT = "budget_spent"
    SHED = "shed"
    DEADLINE = "deadline"
    UPSTREAM_FAILED = "upstream_failed"
    """The engine failed before the first byte."""
    UPSTREAM_BROKEN = "upstream_broken"
    """The engine failed after it."""
    HARMONY_FAULT = "harmony_fault"
    CLIENT_GONE_WAITING = "client_gone_waiting"
    CLIENT_GONE_STREAMING = "client_gone_streaming"
    ABORTED_SHUTDOWN = "aborted_shutdown"
    INTERNAL = "internal"


class Usage(NamedTuple):
    """Tokens of one request. ``cached`` is the part of ``prompt`` read from the prefix cache."""

    prompt: int = 0
    cached: int = 0
    reasoning: int = 0
    answer: int = 0

    @property
    def total(self) -> int:
        """All tokens that the request is charged for."""
        return self.prompt + self.reasoning + self.answer
