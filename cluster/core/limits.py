"""Limits: what a request must hold before it runs, and what is given back after it.

One reserve checks and takes requests, tokens, concurrency and the day's budget in one step, or takes none of
them; one settle corrects the tokens to what was used and gives the slot back.

Rates are token buckets: they hold one minute's worth, refill continuously, and may be driven into debt only
by a settle. They count in whole *units*, so that no rounding ever admits a request too many: a token is
``UNIT`` units, and a limit of L per minute refills L units every microsecond.
"""

import math
from dataclasses import dataclass
from typing import Literal

from cluster.core.effort import Effort

LimitName = Literal["requests", "tokens", "concurrent", "budget"]

UNIT = 60_000_000
"""Units in one token or request: the microseconds of a minute."""
DAY_US = 86_400_000_000
"""Microseconds of a UTC day."""
SLOT_RETRY_S = 1.0
"""When to try again for a concurrency slot; nobody knows when one frees, and a second is soon enough."""


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
    """``math.inf`` for a request that is larger than a whole limit: no wait makes it fit."""
    requests: LimitView | None
    tokens: LimitView | None


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket at one moment."""

    level: int
    """Units that may be taken; negative in debt."""
    at_us: int
    """The moment, in microseconds of the epoch."""


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant's holdings, as one request sees them."""

    requests: Bucket | None = None
    """None: full."""
    tokens: Bucket | None = None
    """None: full."""
    in_flight: int = 0
    spent: int = 0
    """Tokens of the day's budget of the request's effort that are spent or reserved."""


def reserve(account: Account, ask: Ask, now_us: int) -> tuple[Account, Reservation | Refusal]:
    """Take all that ``ask`` wants, or nothing.

    Returns the account as it is afterwards (the same one after a refusal, refilled) and the decision. Of
    several limits that refuse, the one that takes longest is named, so that its wait is a true one.
    """
    limits = ask.limits
    requests = _refilled(account.requests, limits.requests_per_min, now_us)
    tokens = _refilled(account.tokens, limits.tokens_per_min, now_us)
    account = Account(requests, tokens, account.in_flight, account.spent)
    refusals = _refusals(account, ask, now_us)
    if refusals:
        name, wait_s = max(refusals, key=lambda item: item[1])
        return account, Refusal(
            limit=name,
            retry_after_s=wait_s,
            requests=_view(requests, limits.requests_per_min),
            tokens=_view(tokens, limits.tokens_per_min),
        )
    taken = Account(
        requests=_less(requests, 1),
        tokens=_less(tokens, ask.tokens),
        in_flight=account.in_flight + 1,
        spent=account.spent + ask.tokens,
    )
    return taken, Reservation(
        ask=ask,
        requests=_view(taken.requests, limits.requests_per_min),
        tokens=_view(taken.tokens, limits.tokens_per_min),
    )


def settle(account: Account, ask: Ask, *, tokens: int, now_us: int) -> Account:
    """Return the account after ``ask`` ended having used ``tokens``: refund or debt, and a slot freed."""
    bucket = _refilled(account.tokens, ask.limits.tokens_per_min, now_us)
    capacity = (ask.limits.tokens_per_min or 0) * UNIT
    if bucket is not None:
        level = min(capacity, bucket.level + (ask.tokens - tokens) * UNIT)
        bucket = Bucket(level, bucket.at_us)
    return Account(
        requests=account.requests,
        tokens=bucket,
        in_flight=max(0, account.in_flight - 1),
        spent=max(0, account.spent + tokens - ask.tokens),
    )


def full(bucket: Bucket | None, limit: int | None, now_us: int) -> bool:
    """Whether a bucket is full by now, so that forgetting it changes nothing."""
    refilled = _refilled(bucket, limit, now_us)
    return refilled is None or limit is None or refilled.level >= limit * UNIT


def day_of(now_us: int) -> int:
    """Return the number of the UTC day, counted from the epoch."""
    return now_us // DAY_US


def _refilled(bucket: Bucket | None, limit: int | None, now_us: int) -> Bucket | None:
    if limit is None:
        return None
    if bucket is None:
        return Bucket(limit * UNIT, now_us)
    elapsed_us = max(0, now_us - bucket.at_us)  # a clock that is set back never takes tokens away
    return Bucket(min(limit * UNIT, bucket.level + elapsed_us * limit), max(now_us, bucket.at_us))


def _less(bucket: Bucket | None, amount: int) -> Bucket | None:
    return None if bucket is None else Bucket(bucket.level - amount * UNIT, bucket.at_us)


def _refusals(account: Account, ask: Ask, now_us: int) -> list[tuple[LimitName, float]]:
    limits = ask.limits
    found: list[tuple[LimitName, float]] = []
    if account.requests is not None and account.requests.level < UNIT:
        found.append(("requests", _wait_s(account.requests, UNIT, limits.requests_per_min)))
    if account.tokens is not None and account.tokens.level < ask.tokens * UNIT:
        found.append(("tokens", _wait_s(account.tokens, ask.tokens * UNIT, limits.tokens_per_min)))
    if limits.concurrent is not None and account.in_flight >= limits.concurrent:
        found.append(("concurrent", SLOT_RETRY_S))
    if limits.tokens_per_day is not None and account.spent + ask.tokens > limits.tokens_per_day:
        midnight_s = (DAY_US - now_us % DAY_US) / 1e6
        found.append(("budget", midnight_s if ask.tokens <= limits.tokens_per_day else math.inf))
    return found


def _wait_s(bucket: Bucket, wanted: int, limit: int | None) -> float:
    """Seconds until the bucket holds ``wanted`` units; infinite where it never can."""
    if limit is None or wanted > limit * UNIT:
        return math.inf
    return -(-(wanted - bucket.level) // limit) / 1e6


def _view(bucket: Bucket | None, limit: int | None) -> LimitView | None:
    if bucket is None or limit is None:
        return None
    missing = max(0, limit * UNIT - bucket.level)
    return LimitView(limit=limit, remaining=max(0, bucket.level // UNIT), reset_s=-(-missing // limit) / 1e6)
