"""Limits: what a request must hold before it runs, and what is given back after it.

One reserve checks and takes requests, tokens, concurrency and the day's budget in one step, or takes none of
them; one settle corrects the tokens to what was used and gives the slot back.
"""

from dataclasses import dataclass
from typing import Literal

from cluster.core.effort import Effort

LimitName = Literal["requests", "tokens", "concurrent", "budget"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one tenant; None: no such limit."""

    requests_per_min: int | None
    tokens_per_min: int | None
    concurrent: int | None
    tokens_per_day: int | None
    """Budget of the request's effort for the UTC day."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request wants to hold."""

    request_id: str
    tenant: str
    effort: Effort
    tokens: int
    """Prompt estimate plus expected output."""
    limits: Limits


@dataclass(frozen=True, slots=True)
class LimitView:
    """One limit as ``x-ratelimit-*`` headers show it."""

    limit: int
    remaining: int
    reset_s: float
    """Seconds until the limit is full again."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a request holds until it is settled."""

    ask: Ask
    requests: LimitView | None
    tokens: LimitView | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not run now, and when it might."""

    limit: LimitName
    retry_after_s: float
    requests: LimitView | None
    tokens: LimitView | None
