"""Limits: what a request must hold before it runs, and what is given back after it.

A request is limited at two levels: by what its tenant may use, and by what its key may, where the key has
limits of its own. One reserve checks and takes requests, tokens, concurrency and the day's budget of every
level in one step, or takes none of them; one settle corrects the tokens to what was used and gives the slot
back.

Rates are token buckets: they hold one minute's worth, refill continuously, and may be driven into debt only
by a settle. They count in whole *units*, so that no rounding ever admits a request too many: a token is
``UNIT`` units, and a limit of L per minute refills L units every microsecond. ``MAX_PER_MIN`` and
``MAX_DEBT`` keep every sum below 2**53, so that a store that counts in doubles (Lua's numbers) counts the
same.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cluster.core.effort import Effort

LimitName = Literal["requests", "tokens", "concurrent", "budget"]
Level = Literal["tenant", "key"]

UNIT = 60_000_000
"""Units in one token or request: the microseconds of a minute."""
MAX_PER_MIN = 100_000_000
"""Largest limit per minute: 6e15 units."""
MAX_DEBT = 50_000_000
"""Tokens of debt beyond which a bucket does not fall."""
MAX_PER_DAY = 10**15
"""Largest budget of a day, in tokens."""
DAY_US = 86_400_000_000
"""Microseconds of a UTC day."""
LEVELS: tuple[Level, ...] = ("tenant", "key")
"""Levels in the order of ``Ask.limits``."""
SLOT_RETRY_S = 1.0
"""When to try again for a concurrency slot; nobody knows when one frees, and a second is soon enough."""


class Limits(NamedTuple):
    """Limits of one level; None: no such limit."""

    requests_per_min: int | None
    tokens_per_min: int | None
    concurrent: int | None
    tokens_per_day: int | None
    """Budget of the request's effort for the UTC day."""


class Ask(NamedTuple):
    """What one request wants to hold."""

    request_id: str
    tenant: str
    key_id: str
    effort: Effort
    tokens: int
    """Prompt estimate plus expected output."""
    limits: tuple[Limits, ...]
    """The tenant's, then the key's own where it has any."""


class LimitView(NamedTuple):
    """One limit as ``x-ratelimit-*`` headers show it."""

    limit: int
    remaining: int
    reset_s: float
    """Seconds until the limit is full again."""


class Reservation(NamedTuple):
    """What a request holds until it is settled. Of several levels, the views show the tightest."""

    ask: Ask
    requests: LimitView | None
    tokens: LimitView | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not run now, and when it might."""

    limit: LimitName
    level: Level
    retry_after_s: float
    """``math.inf`` for a request that is larger than a whole limit: no wait makes it fit."""
    requests: LimitView | None
    tokens: LimitView | None


class Account(NamedTuple):
    """What one level holds at one moment, as one request sees it."""

    requests: int | None = None
    """Units that may be taken; None: full."""
    tokens: int | None = None
    """Units that may be taken, negative in debt; None: full."""
    at_us: int = 0
    """The moment, in microseconds of the epoch."""
    in_flight: int = 0
    spent: int = 0
    """Tokens of the day's budget of the request's effort that are spent or reserved."""


def reserve(
    accounts: Sequence[Account], ask: Ask, now_us: int
) -> tuple[Sequence[Account], Reservation | Refusal]:
    """Take all that ``ask`` wants from the account of each of its levels, or nothing.

    Returns the accounts as they are afterwards (the same ones after a refusal) and the decision.
    """
    refilled = [refill(account, limits, now_us) for account, limits in zip(accounts, ask.limits, strict=True)]
    if not all(_has_room(each, own, ask.tokens) for each, own in zip(refilled, ask.limits, strict=True)):
        return accounts, refusal(refilled, ask, now_us)
    taken = [take(account, ask.tokens) for account in refilled]
    return taken, reservation(taken, ask)


def refill(account: Account, limits: Limits, now_us: int) -> Account:
    """Return the account at ``now_us``; a clock that is set back never takes anything away."""
    elapsed_us = max(0, now_us - account.at_us)
    return Account(
        requests=_refilled(account.requests, limits.requests_per_min, elapsed_us),
        tokens=_refilled(account.tokens, limits.tokens_per_min, elapsed_us),
        at_us=max(now_us, account.at_us),
        in_flight=account.in_flight,
        spent=account.spent,
    )


def take(account: Account, tokens: int) -> Account:
    """Return a refilled account after one request of ``tokens`` has been taken from it."""
    return Account(
        requests=None if account.requests is None else account.requests - UNIT,
        tokens=None if account.tokens is None else _bounded(account.tokens - tokens * UNIT),
        at_us=account.at_us,
        in_flight=account.in_flight + 1,
        spent=account.spent + tokens,
    )


def settle(account: Account, limits: Limits, *, reserved: int, used: int, now_us: int) -> Account:
    """Return a level's account after a request of ``reserved`` tokens used ``used``: refund or debt."""
    account = refill(account, limits, now_us)
    tokens = account.tokens
    if tokens is not None and limits.tokens_per_min is not None:
        tokens = _bounded(min(limits.tokens_per_min * UNIT, tokens + (reserved - used) * UNIT))
    return Account(
        requests=account.requests,
        tokens=tokens,
        at_us=account.at_us,
        in_flight=max(0, account.in_flight - 1),
        spent=max(0, account.spent + used - reserved),
    )


def reservation(taken: Sequence[Account], ask: Ask) -> Reservation:
    """Return what ``ask`` holds, from the accounts after it was taken."""
    return Reservation(ask, *_views(taken, ask.limits))


def refusal(refilled: Sequence[Account], ask: Ask, now_us: int) -> Refusal:
    """Return why ``ask`` has no room in ``refilled`` accounts.

    Of several limits in its way, the one that takes longest is named, so that its wait is a true one.
    """
    found = [
        (wait_s, name, level)
        for account, limits, level in zip(refilled, ask.limits, LEVELS, strict=False)
        for name, wait_s in _waits(account, limits, ask.tokens, now_us)
    ]
    wait_s, name, level = max(found, key=lambda item: item[0])
    return Refusal(name, level, wait_s, *_views(refilled, ask.limits))


def share(ask: Ask, parts: int, spent: Sequence[int] = ()) -> Ask:
    """Return ``ask`` under an equal share of its limits: one of ``parts``, but at least one of each.

    ``spent`` are the tokens of the day that each level is known to have used. An ask that is larger than a
    share is cut to it, and owes the rest at its settle; one that is larger than a whole limit stays so.
    """
    spent = spent or [0] * len(ask.limits)
    limits = tuple(_share(level, parts, used) for level, used in zip(ask.limits, spent, strict=True))
    if any(whole < ask.tokens for whole in _token_limits(ask.limits)):
        return ask._replace(limits=limits)
    return ask._replace(
        tokens=min(ask.tokens, *(max(1, limit) for limit in _token_limits(limits)), MAX_PER_DAY),
        limits=limits,
    )


def full(account: Account, limits: Limits, now_us: int) -> bool:
    """Whether an account's buckets are full by now, so that forgetting them changes nothing."""
    refilled = refill(account, limits, now_us)
    return (refilled.requests, refilled.tokens) == (
        _capacity(limits.requests_per_min),
        _capacity(limits.tokens_per_min),
    )


def day_of(now_us: int) -> int:
    """Return the number of the UTC day, counted from the epoch."""
    return now_us // DAY_US


def ceiling(limits: Iterable[Limits]) -> int:
    """Return the most tokens that one request can ever hold under all of ``limits``."""
    return min(_token_limits(limits), default=MAX_PER_DAY)


def _share(limits: Limits, parts: int, spent: int) -> Limits:
    def part(limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // parts)

    left = None if limits.tokens_per_day is None else max(0, limits.tokens_per_day - spent)
    return Limits(
        requests_per_min=part(limits.requests_per_min),
        tokens_per_min=part(limits.tokens_per_min),
        concurrent=part(limits.concurrent),
        tokens_per_day=None if left is None else left // parts,
    )


def _token_limits(levels: Iterable[Limits]) -> list[int]:
    found = (limit for level in levels for limit in (level.tokens_per_min, level.tokens_per_day))
    return [limit for limit in found if limit is not None]


def _capacity(limit: int | None) -> int | None:
    return None if limit is None else limit * UNIT


def _refilled(level: int | None, limit: int | None, elapsed_us: int) -> int | None:
    if limit is None:
        return None
    if level is None or elapsed_us * limit >= limit * UNIT - level:
        return limit * UNIT
    return level + elapsed_us * limit


def _bounded(level: int) -> int:
    return max(level, -MAX_DEBT * UNIT)


def _has_room(account: Account, limits: Limits, tokens: int) -> bool:
    """Whether a refilled account has room for one request of ``tokens``."""
    return (
        (account.requests is None or account.requests >= UNIT)
        and (account.tokens is None or account.tokens >= tokens * UNIT)
        and (limits.concurrent is None or account.in_flight < limits.concurrent)
        and (limits.tokens_per_day is None or account.spent + tokens <= limits.tokens_per_day)
    )


def _waits(account: Account, limits: Limits, tokens: int, now_us: int) -> Iterable[tuple[LimitName, float]]:
    """Yield each limit that leaves no room, with the seconds until it does."""
    if account.requests is not None and account.requests < UNIT:
        yield "requests", _wait_s(account.requests, UNIT, limits.requests_per_min)
    if account.tokens is not None and account.tokens < tokens * UNIT:
        yield "tokens", _wait_s(account.tokens, tokens * UNIT, limits.tokens_per_min)
    if limits.concurrent is not None and account.in_flight >= limits.concurrent:
        yield "concurrent", SLOT_RETRY_S
    if limits.tokens_per_day is not None and account.spent + tokens > limits.tokens_per_day:
        midnight_s = (DAY_US - now_us % DAY_US) / 1e6
        yield "budget", midnight_s if tokens <= limits.tokens_per_day else math.inf


def _wait_s(level: int, wanted: int, limit: int | None) -> float:
    """Seconds until the bucket holds ``wanted`` units; infinite where it never can."""
    if limit is None or wanted > limit * UNIT:
        return math.inf
    return -(-(wanted - level) // limit) / 1e6


def _views(
    accounts: Sequence[Account], limits: Sequence[Limits]
) -> tuple[LimitView | None, LimitView | None]:
    requests = tokens = None
    for account, own in zip(accounts, limits, strict=True):
        requests = _tighter(requests, account.requests, own.requests_per_min)
        tokens = _tighter(tokens, account.tokens, own.tokens_per_min)
    return requests, tokens


def _tighter(view: LimitView | None, level: int | None, limit: int | None) -> LimitView | None:
    """Return the view with less left, ``view`` or a bucket's; of equals, the one that fills more slowly."""
    if level is None or limit is None:
        return view
    remaining = level // UNIT if level > 0 else 0
    missing = limit * UNIT - level
    reset_s = -(-missing // limit) / 1e6 if missing > 0 else 0.0
    if view is not None and (view.remaining, -view.reset_s) <= (remaining, -reset_s):
        return view
    return LimitView(limit, remaining, reset_s)
