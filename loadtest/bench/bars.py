"""The bars that the gateway must hold, and the verdict on a run. Pure."""

from collections.abc import Callable

from loadtest.bench.contenders import OURS
from loadtest.bench.measure import MAX_SHARE
from loadtest.bench.results import Result, Round, Run, chunk_cpu_us, request_cpu_us
from loadtest.bench.statistics import Spread
from loadtest.verdicts import Verdict

ADDED_P50_MS = 1.5
RSS_SLOPE_MIB_PER_MIN = 1.0


def judge(run: Run) -> list[Verdict]:
    """Return every bar's verdict; a bar that could not be measured did not hold."""
    return [
        _at_most(run, "CPU per request, against SMG", "smg", request_cpu_us, 1.0),
        _at_least(run, "CPU per request, LiteLLM's against ours", "litellm", request_cpu_us, 40.0),
        _chunks(run, "CPU per chunk, against SMG", "smg", 1.3),
        _chunks(run, "CPU per chunk, against nginx", "nginx", 2.2),
        _added(run),
        _complete(run),
        _memory(run),
    ]


def _chunks(run: Run, what: str, peer: str, limit: float) -> Verdict:
    """Judge the cost of a chunk, which only counts where both sides kept to `MAX_SHARE` of a core."""
    verdict = _at_most(run, what, peer, chunk_cpu_us, limit)
    busy = [name for name in (OURS, peer) if name in run.results and _share(run.results[name]) > MAX_SHARE]
    if busy:
        return Verdict(verdict.bar, False, f"{' and '.join(busy)} used more than {MAX_SHARE:.0%} of a core")
    return verdict


def _share(result: Result) -> float:
    return max((one.chunks.share for one in result.rounds if one.chunks is not None), default=0.0)


def _at_most(run: Run, what: str, peer: str, figure: Callable[[Round], float], limit: float) -> Verdict:
    bar, ratio = f"{what}: at most {limit:g}x", run.ratio(OURS, peer, figure)
    if ratio is None:
        return Verdict(bar, False, _missing(run, OURS, peer))
    return Verdict(bar, ratio.median <= limit, _times(ratio))


def _at_least(run: Run, what: str, peer: str, figure: Callable[[Round], float], limit: float) -> Verdict:
    bar, ratio = f"{what}: at least {limit:g}x", run.ratio(peer, OURS, figure)
    if ratio is None:
        return Verdict(bar, False, _missing(run, OURS, peer))
    return Verdict(bar, ratio.median >= limit, _times(ratio))


def _added(run: Run) -> Verdict:
    bar = f"added p50 at 1 client: at most {ADDED_P50_MS:g} ms"
    added = run.added_ms(OURS, 1, lambda one: one.p50_ms) if OURS in run.results else None
    if added is None or run.results[OURS].failure:
        return Verdict(bar, False, _missing(run, OURS))
    return Verdict(
        bar, added.median <= ADDED_P50_MS, f"{added.median:.2f} ms ({added.low:.2f} to {added.high:.2f})"
    )


def _complete(run: Run) -> Verdict:
    bar = "soak: every sequence number arrives"
    if run.soak is None:
        return Verdict(bar, False, run.soak_failure or "not run")
    told = ", ".join(f"{what}: {count}" for what, count in run.soak.failures.items())
    good = f"{run.soak.tokens:,} tokens in {run.soak.answers:,} streams"
    return Verdict(bar, not told and run.soak.answers > 0, told or good)


def _memory(run: Run) -> Verdict:
    bar = f"soak: memory grows less than {RSS_SLOPE_MIB_PER_MIN:g} MiB/min"
    if run.soak is None:
        return Verdict(bar, False, run.soak_failure or "not run")
    found = run.soak.rss_slope_mib_per_min
    return Verdict(bar, found < RSS_SLOPE_MIB_PER_MIN, f"{found:+.2f} MiB/min")


def _times(ratio: Spread) -> str:
    return f"{ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"


def _missing(run: Run, *names: str) -> str:
    reasons = [
        f"{name}: {_first_line(run.results[name].failure or 'no figures')}"
        if name in run.results
        else f"{name}: left out"
        for name in names
        if name not in run.results or run.results[name].failure or not run.results[name].rounds
    ]
    return "not measured (" + "; ".join(reasons) + ")"


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else text
