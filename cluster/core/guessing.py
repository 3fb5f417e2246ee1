"""How many requests without a live key one address may make before it is told to stop. Pure."""

BURST = 20
"""Failures in a row that are answered as such: a few clients with an old key behind one address."""
EVERY_S = 6.0
"""Seconds after which one more is."""


def count_failure(full_at_s: float, now_s: float) -> float | None:
    """Count a failure of an address; return its new ``full_at_s``, or None where its share is used up.

    A token bucket in one number, the moment at which it is full again: an address whose moment is past can
    be forgotten. What is refused is not counted, so that refusals do not last longer than guessing does.
    """
    later_s = max(full_at_s, now_s) + EVERY_S
    return later_s if later_s - now_s <= BURST * EVERY_S else None
