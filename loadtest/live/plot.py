"""A run as a picture: latency over time by effort, throughput, the knee's curve, errors by kind."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes

from cluster.core.effort import EFFORTS
from loadtest.bench.statistics import percentile
from loadtest.effort.plot import COLOURS
from loadtest.live import figures
from loadtest.live.records import Record
from loadtest.live.results import Run

_BINS = 60
_KNEE_COLOURS = ("#30638e", "#d1495b")


def save(run: Run, path: Path) -> None:
    """Write the picture as PNG."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only after the backend is chosen

    figure, axes = plt.subplots(3, 2, figsize=(14, 12), layout="constrained")
    _draw_times(axes[0, 0], run, "time to first token, s: p95 and each request", lambda one: one.ttft_s)
    _draw_times(axes[0, 1], run, "end to end, s: p95 and each whole answer", _whole)
    _draw_times(axes[1, 0], run, "inter-token time of a stream, mean, s: p95 and each request", _mean_gap)
    _draw_throughput(axes[1, 1], run)
    _draw_knee(axes[2, 0], run)
    _draw_errors(axes[2, 1], run)
    figure.suptitle(f"{run.about['target']}, {run.about['at']}, {run.about['machine']}", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _whole(one: Record) -> float | None:
    return one.e2e_s if one.good else None


def _mean_gap(one: Record) -> float | None:
    count = sum(one.gaps.values())
    return one.gap_sum_s / count if count else None


def _draw_times(axes: Axes, run: Run, title: str, figure: Callable[[Record], float | None]) -> None:
    axes.set_title(title, fontsize=10)
    for effort in EFFORTS:
        points = [
            (one.at_s - run.began_s, value)
            for one in run.records
            if one.effort == effort and (value := figure(one)) is not None
        ]
        if not points:
            continue
        points.sort()
        axes.scatter([x for x, _ in points], [y for _, y in points], s=5, alpha=0.35, color=COLOURS[effort])
        times, tops = _binned(points)
        axes.plot(times, tops, color=COLOURS[effort], label=f"{effort}, p95")
    axes.set_yscale("log")
    axes.set_xlabel("sent, s after the start")
    _legend(axes)


def _binned(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return the p95 of stretches of time; each has at least five points."""
    width_s = max((points[-1][0] - points[0][0]) / _BINS, 1e-3)
    times, tops, pending = [], [], list[tuple[float, float]]()
    for point in points:
        pending.append(point)
        if len(pending) >= 5 and point[0] - pending[0][0] >= width_s:
            times.append(sum(x for x, _ in pending) / len(pending))
            tops.append(percentile([y for _, y in pending], 0.95))
            pending = []
    if pending:
        times.append(sum(x for x, _ in pending) / len(pending))
        tops.append(percentile([y for _, y in pending], 0.95))
    return times, tops


def _draw_throughput(axes: Axes, run: Run) -> None:
    axes.set_title("output tokens/s of whole answers (by their end), and users", fontsize=10)
    last_s = max((one.ended_s for one in run.records), default=run.began_s)
    width_s = max((last_s - run.began_s) / _BINS, 1.0)
    tokens = [0.0] * (int((last_s - run.began_s) / width_s) + 1)
    for one in run.records:
        tokens[int((one.ended_s - run.began_s) / width_s)] += one.output_tokens / width_s
    axes.step(
        [(number + 0.5) * width_s for number in range(len(tokens))], tokens, where="mid", color="#30638e"
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s after the start")
    users = axes.twinx()
    by_time: dict[int, int] = {}
    for sample in run.samples:
        by_time[round(sample.at_s - run.began_s)] = (
            by_time.get(round(sample.at_s - run.began_s), 0) + sample.users
        )
    users.plot(list(by_time), list(by_time.values()), color="grey", linewidth=0.8, linestyle=":")
    users.set_ylabel("users (dotted)", fontsize=8)
    users.set_ylim(bottom=0)


def _draw_knee(axes: Axes, run: Run) -> None:
    axes.set_title("each level's throughput (blue) and low effort's TTFT p95 (red)", fontsize=10)
    if not run.levels:
        _draw_nothing(axes, "this shape has no levels")
        return
    levels = sorted(run.levels, key=lambda one: one.users)
    users = [one.users for one in levels]
    tokens = [figures.rates(run.records, one.first_s, one.last_s).tokens_per_s for one in levels]
    axes.plot(users, tokens, color=_KNEE_COLOURS[0])
    for level, rate in zip(levels, tokens, strict=True):
        axes.plot(level.users, rate, "o" if level.held else "x", color=_KNEE_COLOURS[0])
    axes.set_xlabel("users (cross: an objective broke)")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("tokens/s", fontsize=8)
    if run.knee:
        axes.axvline(run.knee, color="grey", linestyle=":", label=f"held: {run.knee} users")
        _legend(axes)
    times = axes.twinx()
    found = [
        percentile(seconds, 0.95)
        if (seconds := _first_tokens(run, one.first_s, one.last_s))
        else float("nan")
        for one in levels
    ]
    times.plot(users, found, color=_KNEE_COLOURS[1], linestyle="--")
    times.set_yscale("log")
    times.set_ylabel("s", fontsize=8)


def _first_tokens(run: Run, first_s: float, last_s: float) -> list[float]:
    lowest = min((EFFORTS.index(one.effort) for one in run.records), default=0)
    ended = (one for one in run.records if first_s <= one.ended_s <= last_s)
    return [one.ttft_s for one in ended if one.ttft_s is not None and one.effort == EFFORTS[lowest]]


def _draw_errors(axes: Axes, run: Run) -> None:
    axes.set_title("errors by kind, when they were sent", fontsize=10)
    bad = [one for one in run.records if one.outcome not in ("ok", "unfinished")]
    if not bad:
        _draw_nothing(axes, "none")
        return
    kinds = sorted({f"{one.outcome}: {one.reason}" for one in bad})
    times = [
        [one.at_s - run.began_s for one in bad if f"{one.outcome}: {one.reason}" == kind] for kind in kinds
    ]
    axes.hist(times, bins=_BINS, stacked=True, label=kinds)
    axes.set_xlabel("s after the start")
    _legend(axes)


def _draw_nothing(axes: Axes, why: str) -> None:
    axes.annotate(why, (0.5, 0.5), xycoords="axes fraction", ha="center")
    axes.set_xticks([])
    axes.set_yticks([])


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
