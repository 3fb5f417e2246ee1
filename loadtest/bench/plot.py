"""A run as a picture: cost per request and per chunk, added latency, and memory over the soak."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes

from loadtest.bench.contenders import OURS
from loadtest.bench.results import Run, chunk_cpu_us, request_cpu_us
from loadtest.bench.statistics import Spread

_OURS, _PEER = "#d1495b", "#30638e"


def save(run: Run, path: Path) -> None:
    """Write the picture as PNG."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only after the backend is chosen

    figure, axes = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    measured = {name: result for name, result in run.results.items() if result.rounds and not result.failure}
    requests = {name: result.over_rounds(request_cpu_us) for name, result in measured.items()}
    chunks = {
        name: result.over_rounds(chunk_cpu_us)
        for name, result in measured.items()
        if all(one.chunks is not None for one in result.rounds)
    }
    added = {name: run.added_ms(name, 1, lambda one: one.p50_ms) for name in measured}
    titles = {name: result.title for name, result in measured.items()}
    _draw_costs(axes[0, 0], requests, titles, "CPU per request, µs (logarithmic)")
    _draw_costs(axes[0, 1], chunks, titles, "CPU per streamed chunk, µs (logarithmic)")
    _draw_costs(axes[1, 0], added, titles, "Added latency p50 at 1 client, ms (logarithmic)")
    _draw_soak(axes[1, 1], run)
    figure.suptitle(f"{run.about['machine']}, {run.about['at']}", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_costs(axes: Axes, found: dict[str, Spread | None], titles: dict[str, str], title: str) -> None:
    bars = [(name, spread) for name, spread in found.items() if spread is not None and spread.low > 0]
    axes.set_title(title, fontsize=10)
    if not bars:
        return
    medians = [spread.median for _, spread in bars]
    reach = (
        [spread.median - spread.low for _, spread in bars],
        [spread.high - spread.median for _, spread in bars],
    )
    colours = [_OURS if name == OURS else _PEER for name, _ in bars]
    labels = [titles[name] for name, _ in bars]
    axes.barh(labels, medians, xerr=reach, color=colours, error_kw={"elinewidth": 1})
    for place, value in enumerate(medians):
        axes.annotate(f" {value:.3g}", (value, place), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.margins(x=0.15)


def _draw_soak(axes: Axes, run: Run) -> None:
    axes.set_title("Soak: resident memory of the gateway, MiB", fontsize=10)
    if run.soak is None:
        axes.annotate("not run", (0.5, 0.5), xycoords="axes fraction", ha="center")
        return
    axes.plot([at for at, _ in run.soak.rss_mib], [mib for _, mib in run.soak.rss_mib], color=_OURS)
    axes.set_xlabel(f"seconds, {run.soak.streams} streams")
    axes.set_ylim(bottom=0)
