"""A plan for the reader: a sentence, a table, what it assumes, a picture, or JSON."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from cluster.core.effort import EFFORTS
from loadtest.fleet.engine import MODEL, engine, source
from loadtest.fleet.planning import Plan
from loadtest.fleet.sizing import ByEffort, Site, Size

CAUTION = (
    "An estimate from published figures, not a measurement of your site: measure one replica before you buy."
)
_COLOURS = ("#2a9d8f", "#30638e", "#d1495b")


def answer(plan: Plan) -> str:
    """Return the answer as a sentence."""
    gpu = plan.site.gpu
    if plan.enough is None:
        return f"No number of {gpu} GPUs that may be had holds the objective: {plan.why_none}."
    spare = f"{plan.spare.gpus} with one to spare" if plan.spare else "and none to spare within --max-gpus"
    return f"{plan.enough} {gpu} GPU{'s' if plan.enough > 1 else ''}, {spare}."


def table(plan: Plan) -> Table:
    """Return what was simulated: a row for each size."""
    made = Table()
    made.add_column("GPUs", justify="right")
    made.add_column("load", justify="right")
    for name in ("first token p95, s", "between tokens p95, ms", "refused, %"):
        made.add_column(f"{name}\nlow / medium / high", justify="right")
    made.add_column("holds")
    for size in plan.sizes:
        made.add_row(*_cells(size, str(size.gpus), plan), style="bold" if size.gpus == plan.enough else "")
    if plan.spare is not None:
        made.add_row(*_cells(plan.spare, f"{plan.spare.gpus}, 1 dies", plan))
    return made


def assumptions(plan: Plan) -> list[str]:
    """Return what the answer rests on, a line each."""
    site, asked, slo = plan.site, plan.asked, plan.objective
    cut = [f"A replica that dies breaks {plan.spare.cut} answers off."] if plan.spare else []
    return [
        f"Load: {_load(site)}, {_efforts(share * 100 for share in site.mix)} % low/medium/high; prompts of "
        f"{site.prompt_tokens[0]:,} to {site.prompt_tokens[1]:,} tokens, outputs of "
        f"{_efforts(site.outputs)} on average before the efforts' limits: {asked.tokens_per_s:,.0f} output "
        "tokens/s, in bursts.",
        f"Objective: first token within {_efforts(slo.wait_s)} s and {_efforts(slo.token_ms)} ms between "
        f"tokens (95th percentiles), at most {slo.refused * 100:g} % refused.",
        f"One GPU: {MODEL}, at most {engine(site.gpu).slots} requests at once, {plan.each:,.0f} output "
        "tokens/s when full. No prefix is found in the cache.",
        *cut,
        f"Curves: {source(site.gpu)}.",
        CAUTION,
    ]


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan for scripts; figures of an effort that the mix lacks are null."""
    return {
        "gpus": plan.enough,
        "gpus_with_spare": plan.spare.gpus if plan.spare else None,
        "why_none": plan.why_none or None,
        "site": plan.site,
        "objective": plan.objective,
        "requests_per_s": plan.site.rate,
        "tokens_per_s": plan.asked.tokens_per_s,
        "replica_tokens_per_s": plan.each,
        "sizes": [_size(size, plan) for size in plan.sizes],
        "one_dies": _size(plan.spare, plan) if plan.spare else None,
        "source": source(plan.site.gpu),
        "caution": CAUTION,
    }


def save_plot(plan: Plan, path: Path) -> None:
    """Write first-token and inter-token times over the number of GPUs as PNG. Raises `OSError`."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - only after the backend is chosen

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    gpus = [size.gpus for size in plan.sizes]
    _draw(left, gpus, [size.wait_s for size in plan.sizes], plan.objective.wait_s)
    left.set(title="First token p95, s", yscale="log")
    _draw(right, gpus, [size.token_ms for size in plan.sizes], plan.objective.token_ms)
    right.set(title="Between tokens p95, ms", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlabel(f"{plan.site.gpu} GPUs (dashed: objective)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if plan.enough is not None:
            axes.axvline(plan.enough, color="#999999", linewidth=1)
    left.legend(fontsize=8)
    figure.suptitle(f"{answer(plan)} {_load(plan.site)}\n{CAUTION}", fontsize=9)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _draw(axes: Axes, gpus: Sequence[int], values: Sequence[ByEffort], objective: ByEffort) -> None:
    for index, (effort, colour) in enumerate(zip(EFFORTS, _COLOURS, strict=True)):
        axes.plot(gpus, [value[index] for value in values], "o-", color=colour, label=effort)
        axes.axhline(objective[index], color=colour, linestyle="--", linewidth=1)


def _cells(size: Size, name: str, plan: Plan) -> list[str]:
    held = not size.misses(plan.objective)
    return [
        name,
        f"{size.load:.0%}",
        " / ".join(_figure(wait_s, ".2f") for wait_s in size.wait_s),
        " / ".join(_figure(ms, ".0f") for ms in size.token_ms),
        " / ".join(_figure(share * 100, ".1f") for share in size.refused),
        "yes" if held else "no",
    ]


def _size(size: Size, plan: Plan) -> dict[str, Any]:
    return {
        "gpus": size.gpus,
        "load": size.load,
        "first_token_p95_s": dict(zip(EFFORTS, size.wait_s, strict=True)),
        "inter_token_p95_ms": dict(zip(EFFORTS, size.token_ms, strict=True)),
        "refused": dict(zip(EFFORTS, size.refused, strict=True)),
        "cut_off": size.cut,
        "misses": size.misses(plan.objective),
    }


def _load(site: Site) -> str:
    users = f"{site.users:,} user{'s' if site.users > 1 else ''}"
    return (
        f"{users} x {site.requests_per_hour:g} requests an hour x {site.peak:g} at the peak "
        f"= {site.rate:.2g} requests/s"
    )


def _efforts(values: Iterable[float]) -> str:
    return "/".join(f"{value:g}" for value in values)


def _figure(value: float, form: str) -> str:
    return "none" if math.isnan(value) else format(value, form)
