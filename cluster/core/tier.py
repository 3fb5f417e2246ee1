"""Service tiers: which requests yield to others, in OpenAI's words.

A tenant has a tier, as a project has at OpenAI: its requests have that one where they name none, and may ask
for a lower one. A higher one is not refused but not given, and the answer's ``service_tier`` says so.
"""

from typing import Literal, get_args

Tier = Literal["flex", "default", "priority"]

TIERS: tuple[Tier, ...] = get_args(Tier)
"""All tiers, the one that yields first."""

ASKABLE = ("auto", *TIERS, "scale", "fast", "ultrafast")
"""OpenAI's words for ``service_tier``; those that are no tier here are read as ``auto``."""


def choose(asked: str | None, *, own: Tier) -> Tier:
    """Return the tier of a request of a caller whose ``own`` tier is that; ``asked`` is None for ``auto``."""
    return lower(asked, own) if asked in TIERS else own


def lower(one: Tier, other: Tier) -> Tier:
    """Return the tier of the two that yields first."""
    return min(one, other, key=TIERS.index)
