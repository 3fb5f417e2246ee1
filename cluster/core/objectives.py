"""Whether a request got what its effort promises: the events that error budgets are counted in. Pure."""

from typing import NamedTuple

from cluster.core.accounting import Outcome

_CALLERS = frozenset(
    {
        Outcome.INVALID,
        Outcome.UNAUTHENTICATED,
        Outcome.FORBIDDEN,
        Outcome.RATE_LIMITED,
        Outcome.BUDGET_SPENT,
    }
)
"""Ends that the caller has caused: no promise was made."""
_LEFT = frozenset({Outcome.CLIENT_GONE_WAITING, Outcome.CLIENT_GONE_STREAMING})


class Objectives(NamedTuple):
    """What users of one model at one effort may expect."""

    wait_s: float
    """Longest wait for the first token."""
    inter_token_s: float | None = None
    """Longest mean time between tokens; None: no objective."""
    total_s: float | None = None
    """Longest time for the whole answer; None: no objective."""


def kept(
    objectives: Objectives,
    outcome: Outcome,
    *,
    wait_s: float,
    inter_token_s: float | None,
    total_s: float,
) -> bool | None:
    """Return whether the objectives were kept; None where nothing was promised, or nobody stayed to see it.

    ``wait_s`` is the wait for the first token, as far as it is known; ``inter_token_s`` is None where there
    were no two tokens. Who leaves after too long a wait was not served; who leaves before says nothing.
    """
    if outcome in _CALLERS:
        return None
    late = wait_s > objectives.wait_s
    if outcome in _LEFT:
        return False if late else None
    if outcome is not Outcome.COMPLETED or late:
        return False
    return _within(inter_token_s, objectives.inter_token_s) and _within(total_s, objectives.total_s)


def _within(value_s: float | None, limit_s: float | None) -> bool:
    return value_s is None or limit_s is None or value_s <= limit_s
