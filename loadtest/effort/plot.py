"""A run as a picture: each system's waits over the time of arrival, and their distribution at low effort."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes

from cluster.core.effort import EFFORTS, Effort
from loadtest.effort.results import SYSTEMS, WAIT_S, Run, System

COLOURS: dict[Effort, str] = {"low": "#d1495b", "medium": "#edae49", "high": "#30638e"}
"""One for each effort, in every plot."""
_LINES: dict[System, str] = {"gateway": "#d1495b", "round-robin": "#30638e"}
_LEAST_S = 0.005


def save(run: Run, path: Path) -> None:
    """Write the picture as PNG."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only after the backend is chosen

    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    for place, system in zip(axes, SYSTEMS, strict=False):
        _draw_waits(place, run, system)
    axes[1].sharey(axes[0])
    _draw_low(axes[2], run)
    figure.suptitle(f"{run.about['load']}; {run.about['engines']}; {run.about['at']}", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_waits(axes: Axes, run: Run, system: System) -> None:
    axes.set_title(f"{system}: wait in s, all runs (crosses: never served)", fontsize=10)
    outcomes = [one for found in run.found[system] for one in found.outcomes]
    for effort in EFFORTS:
        for mark, served in (("o", True), ("x", False)):
            chosen = [one for one in outcomes if one.effort == effort and (one.fate == "served") == served]
            axes.scatter(
                [one.at_s for one in chosen],
                [max(one.wait_s, _LEAST_S) for one in chosen],
                s=9,
                marker=mark,
                linewidths=0.8,
                color=COLOURS[effort],
                label=effort if served else None,
            )
    axes.set_yscale("log")
    axes.set_xlabel("arrival, s")
    axes.legend(fontsize=8)


def _draw_low(axes: Axes, run: Run) -> None:
    axes.set_title("Low effort: share of requests that waited at most so long", fontsize=10)
    for system in SYSTEMS:
        for number, found in enumerate(run.found[system]):
            waits = sorted(max(one.wait_s, _LEAST_S) for one in found.outcomes if one.effort == "low")
            shares = [(index + 1) / len(waits) for index in range(len(waits))]
            axes.step(waits, shares, where="post", color=_LINES[system], label=None if number else system)
    axes.axhline(0.95, color="grey", linewidth=0.8, linestyle=":")
    axes.axvline(WAIT_S, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("wait, s")
    axes.legend(fontsize=8)
