"""A run as one HTML page that needs nothing else: tables, the picture, and what was measured."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from cluster.core.effort import EFFORTS
from loadtest.live.figures import Spans
from loadtest.live.results import Run
from loadtest.live.shapes import kind
from loadtest.live.slo import seconds
from loadtest.verdicts import last_line

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
.held { color: #2a7a2a; } .broke { color: #b00020; } .warning { background: #fff3cd; padding: .5rem 1rem; }
img { max-width: 100%; }
"""
_NAMES = {
    "ttft_s": "time to first token",
    "answer_s": "time to first answer",
    "inter_token_s": "inter-token time",
    "e2e_s": "end to end",
}


def save(run: Run, path: Path, *, picture: bytes) -> None:
    """Write the page, with the picture inside, which is a PNG."""
    path.write_text(page(run, picture), encoding="utf-8")


def page(run: Run, picture: bytes) -> str:
    """Return the page."""
    verdicts = run.verdicts()
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Load test</title>",
        f"<style>{_STYLE}</style></head><body><h1>Load test: {_text(kind(run.plan.shape))}</h1>",
        *(f"<p class='warning'>Warning: {_text(warning)}.</p>" for warning in run.warnings()),
        *([f"<h2>{_text(last_line(verdicts))}</h2>", _verdicts(run)] if verdicts else []),
        "<h2>Times</h2>",
        _times(run),
        "<h2>Throughput and errors</h2>",
        _throughput(run),
        _errors(run),
        f"<img alt='Plots' src='data:image/png;base64,{base64.b64encode(picture).decode()}'>",
        *(["<h2>Levels</h2>", _levels(run)] if run.levels else []),
        *(["<h2>Stretches</h2>", _phases(run)] if run.phases() else []),
        *(["<h2>The target's processes</h2>", _trends(run)] if run.trends() else []),
        "<h2>What was measured</h2>",
        _facts(run),
        "</body></html>",
    ]
    return "\n".join(parts)


def _verdicts(run: Run) -> str:
    rows = []
    for one in run.verdicts():
        word = "<span class='held'>yes</span>" if one.held else "<span class='broke'>no</span>"
        rows.append([_text(one.bar), word, _text(one.found)])
    return _table(["objective", "held", "found"], rows)


def _times(run: Run) -> str:
    rows = []
    for effort, found in run.by_effort().items():
        for name, title in _NAMES.items():
            spans: Spans | None = getattr(found, name)
            if spans is not None:
                points = (spans.mean, spans.p50, spans.p90, spans.p95, spans.p99)
                rows.append([f"{effort}: {title}", str(spans.count), *map(seconds, points)])
    return _table(["", "count", "mean", "p50", "p90", "p95", "p99"], rows)


def _throughput(run: Run) -> str:
    rates = run.rates()
    rows = [
        [
            effort,
            str(found.count),
            str(found.good),
            f"{found.error_share:.2%}",
            f"{found.tokens_per_s.p50:.1f}" if found.tokens_per_s else "-",
            str(found.output_tokens),
        ]
        for effort, found in run.by_effort().items()
    ]
    answers, tokens = f"{rates.requests_per_s:.2f} whole answers", f"{rates.tokens_per_s:.0f} output tokens"
    total = f"<p>{answers} and {tokens} a second.</p>"
    return total + _table(
        ["", "requests", "whole answers", "errors", "tokens/s of one stream, p50", "output tokens"], rows
    )


def _errors(run: Run) -> str:
    figures = run.by_effort()
    rows = [
        [f"{effort}: {_text(reason)}", str(count)]
        for effort in EFFORTS
        if effort in figures
        for reason, count in figures[effort].errors.items()
    ]
    return _table(["error", "count"], rows) if rows else ""


def _levels(run: Run) -> str:
    rows = [[str(one.users), "yes" if one.held else "no", _text("; ".join(one.broken))] for one in run.levels]
    return _table(["users", "held", "broken"], rows)


def _phases(run: Run) -> str:
    rows = [
        [
            one.name,
            f"{one.rates.requests_per_s:.2f}",
            f"{one.rates.tokens_per_s:.0f}",
            "<br>".join(
                f"{_text(reason)}: {told.count}, p50 {seconds(told.p50)}, p99 {seconds(told.p99)}"
                for reason, told in one.refusals.items()
            )
            or "none",
        ]
        for one in run.phases()
    ]
    return _table(["stretch", "whole answers/s", "tokens/s", "refusals, and when they were told"], rows)


def _trends(run: Run) -> str:
    rows = [
        [
            _text(one.target),
            f"{one.rss_first_mib:.1f} to {one.rss_last_mib:.1f}",
            f"{one.rss_slope_mib_per_min:+.3f}",
            f"{one.open_files_first:.0f} to {one.open_files_last:.0f}",
        ]
        for one in run.trends()
    ]
    return _table(["metrics", "memory, MiB", "MiB/min", "open files"], rows)


def _facts(run: Run) -> str:
    used = run.generator()
    cost = "-" if used.cpu_us_per_chunk is None else f"{used.cpu_us_per_chunk:.0f} µs"
    generator = (
        f"{used.processes} processes; busiest: {used.cpu_max:.0%} of a core; "
        f"{cost} of CPU per event with text; "
        f"timers at most {used.late_ms_max:.1f} ms late"
    )
    facts = {
        **run.about,
        "load generator": generator,
        "engines' fingerprints": ", ".join(sorted({one.fingerprint for one in run.records} - {""})) or "-",
        "plan": run.plan.model_dump_json(),
        "objectives": "-" if run.objectives is None else run.objectives.model_dump_json(),
    }
    return _table(["", ""], [[_text(name), _text(value)] for name, value in facts.items()])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML."""
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "".join(lines) + "</table>"


def _text(value: str) -> str:
    return html.escape(value)
