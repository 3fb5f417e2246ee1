"""A study as a picture: for each part of it, what the policies come to beside each other."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes

from loadtest.bench.statistics import Spread, spread
from loadtest.fleet.acceptance import Check
from loadtest.fleet.measures import Measures
from loadtest.fleet.routers import OURS
from loadtest.fleet.show import Found

_OURS, _OTHER = "#d1495b", "#30638e"
_WIDEST = 5.0
"""Parts of a limit that are still shown as they are."""
_PANELS: tuple[tuple[str, Callable[[Measures], float]], ...] = (
    ("low effort: refused, %", lambda run: 100 * run.by_effort["low"].refused),
    ("low effort: wait p95, s", lambda run: run.by_effort["low"].wait_p95_s),
    ("low effort: between tokens p95, ms", lambda run: run.by_effort["low"].token_p95_ms),
    ("high effort: end p95, s", lambda run: run.by_effort["high"].end_p95_s),
    ("tokens of completed requests per second", lambda run: run.tokens_per_s),
)


def save(found: Sequence[Found], path: Path) -> None:
    """Write the picture as PNG: a row for each part, a panel for each figure with its spread."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only after the backend is chosen

    parts: dict[str, list[Found]] = {}
    for case, runs in found:
        parts.setdefault(case.title, []).append((case, runs))
    most = max(map(len, parts.values()))
    figure, rows = plt.subplots(
        len(parts),
        len(_PANELS),
        figsize=(4 * len(_PANELS), len(parts) * (1.2 + 0.22 * most)),
        layout="constrained",
        squeeze=False,
    )
    for axes, (title, part) in zip(rows, parts.items(), strict=True):
        for panel, (name, value) in zip(axes, _PANELS, strict=True):
            _draw(panel, {case.policy: spread([value(run) for run in runs]) for case, runs in part})
            panel.set_title(name, fontsize=9)
        axes[0].set_ylabel(title, fontsize=9)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def save_checks(checks: Sequence[Check], path: Path) -> None:
    """Write the verdicts as PNG: each figure in parts of its limit, which is the line at 1."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only after the backend is chosen

    figure, axes = plt.subplots(figsize=(12, 1 + 0.25 * len(checks)), layout="constrained")
    for row, check in enumerate(checks):
        # a limit of nothing is shown as that of one
        low, median, high = (
            min(value / (check.limit or 1.0), _WIDEST)
            for value in (check.over.low, check.over.median, check.over.high)
        )
        axes.plot([low, high], [row, row], color=_OTHER if check.held else _OURS, linewidth=3, alpha=0.4)
        axes.plot([median], [row], "o", color=_OTHER if check.held else _OURS)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(
        range(len(checks)), [f"{check.bar}  {check.name} ({check.sense} {check.limit:g})" for check in checks]
    )
    axes.tick_params(labelsize=8)
    axes.set_ylim(len(checks) - 0.5, -0.5)
    axes.set_title("measured, in parts of the limit: blue is held", fontsize=9)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw(axes: Axes, bars: dict[str, Spread]) -> None:
    over = list(bars.values())
    axes.barh(
        list(bars),
        [one.median for one in over],
        xerr=([one.median - one.low for one in over], [one.high - one.median for one in over]),
        color=[_OURS if name == OURS else _OTHER for name in bars],
        error_kw={"elinewidth": 1},
    )
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
