"""Reasoning effort: the unit of routing, scheduling, limits and cost.

gpt-oss knows three levels. OpenAI's clients may ask for seven; the four others are mapped, and every change
of what was asked carries a reason that the client can read in ``x-effort-reason``.
"""

from typing import Literal, NamedTuple, get_args

Effort = Literal["low", "medium", "high"]
EffortReason = Literal["requested", "default", "tenant_cap", "mapped", "downgraded"]

EFFORTS: tuple[Effort, ...] = get_args(Effort)
"""All levels, lowest first."""

MAPPED: dict[str, Effort] = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}
"""OpenAI's levels that gpt-oss lacks, to the nearest one it has (Harmony refuses any fourth word)."""

MIN_REASONING_TOKENS = 16
"""Smallest cap on reasoning: with less, and with tools, gpt-oss opens one empty thought after another."""


class EffortChoice(NamedTuple):
    """The level a request runs at, and why it may differ from what was asked."""

    asked: str | None
    level: Effort
    reason: EffortReason


def choose(asked: str | None, *, default: Effort, cap: Effort = "high") -> EffortChoice:
    """Choose the level for a request.

    ``asked`` is one of OpenAI's words, or None when the client named none; ``default`` is the model's level
    then; ``cap`` is the highest level the caller may use. Raises ``ValueError`` for an unknown word.
    """
    level: Effort
    reason: EffortReason
    if asked is None:
        level, reason = default, "default"
    elif asked in EFFORTS:
        level, reason = asked, "requested"
    elif asked in MAPPED:
        level, reason = MAPPED[asked], "mapped"
    else:
        raise ValueError(f"unknown reasoning effort {asked!r}: use one of {', '.join([*EFFORTS, *MAPPED])}")
    if EFFORTS.index(level) > EFFORTS.index(cap):
        level, reason = cap, "tenant_cap"
    return EffortChoice(asked=asked, level=level, reason=reason)


def tightest(*caps: int | None) -> int | None:
    """Return the smallest of some caps on reasoning, in tokens; None is no cap."""
    tight = None
    for cap in caps:
        if cap is not None and (tight is None or cap < tight):
            tight = cap
    return tight
