"""How many requests may be on their second attempt at once: a budget that follows the load. Pure."""

SHARE_OF_ACTIVE = 0.2
"""Second attempts per active request, Envoy's default (``retry_budget.budget_percent``): when every first
attempt fails, the engines see a fifth more work and not twice as much."""
ALWAYS_ALLOWED = 10
"""Second attempts that even an idle gateway may run: what a lost replica leaves behind on a small site.
Envoy allows 3 of its far shorter requests."""


def may_retry(*, retrying: int, active: int) -> bool:
    """Return whether one more second attempt fits.

    ``retrying`` are the requests on their second attempt now, ``active`` all requests inside, those included.
    """
    return retrying < max(ALWAYS_ALLOWED, SHARE_OF_ACTIVE * active)
