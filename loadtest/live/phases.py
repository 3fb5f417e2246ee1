"""The stretches of a shape that has some: what an overload costs, and how refusals are told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.live import figures
from loadtest.live.figures import Rates, Spans
from loadtest.live.plan import Shape, Spike, Step
from loadtest.live.records import Record


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch."""

    name: str
    rates: Rates
    """Whole answers and their tokens: the goodput."""
    refusals: dict[str, Spans]
    """Seconds until a refusal was told, by its reason."""


def phases(shape: Shape, records: Sequence[Record], began_s: float) -> list[Phase]:
    """Return the stretches of a spike or a step; none of another shape.

    An answer counts where it ended, a refusal where it was asked for.
    """
    match shape:
        case Spike():
            lengths = {"before": shape.before_s, "spike": shape.spike_s, "after": shape.after_s}
        case Step():
            lengths = {"before": shape.before_s, "overload": shape.overload_s, "after": shape.after_s}
        case _:
            return []
    found, first_s = [], began_s
    for name, seconds in lengths.items():
        last_s = first_s + seconds
        refused = [one for one in records if one.outcome == "refused" and first_s <= one.at_s < last_s]
        times: dict[str, list[float]] = {}
        for one in refused:
            times.setdefault(one.reason, []).append(one.e2e_s)
        told = {reason: spans for reason, values in times.items() if (spans := figures.spans(values))}
        found.append(Phase(name, figures.rates(records, first_s, last_s), told))
        first_s = last_s
    return found


def goodput_kept(found: Sequence[Phase]) -> float | None:
    """Return the goodput of the middle stretch by that of the first; None where there are none."""
    if not found or not found[0].rates.tokens_per_s:
        return None
    return found[1].rates.tokens_per_s / found[0].rates.tokens_per_s
