"""The verdict on a run."""

from dataclasses import replace

import pytest

from loadtest.bench.bars import judge
from loadtest.bench.measure import Chunks, Requests, Soak
from loadtest.bench.results import Result, Round, Run
from loadtest.verdicts import last_line


def requests(cpu_us: float, p50_ms: float, clients: int = 32) -> Requests:
    """Return one measurement of requests."""
    return Requests(clients, per_s=1.0, p50_ms=p50_ms, p99_ms=9.0, cpu_us=cpu_us, redis_cpu_us=1.0)


def result(name: str, cpu_us: float, chunk_us: float, *, p50_ms: float = 1.0, share: float = 0.4) -> Result:
    """Return a contender that was measured in three equal rounds."""
    chunks = Chunks(64, 1.0, 1.0, share=share, cpu_us=chunk_us, redis_cpu_us=0.0, events_per_write=1.0)
    one = Round({1: requests(cpu_us, p50_ms, 1), 32: requests(cpu_us, 9.0)}, chunks, 50.0)
    return Result(name, name, rounds=[one] * 3)


def run() -> Run:
    """Return a run in which every bar holds, each just so."""
    contenders = [
        result("gateway", 100, 22, p50_ms=1.6),
        result("smg", 100, 17),
        result("nginx", 20, 10),
        result("litellm", 4000, 800),
    ]
    soak = Soak(
        500, 300.0, tokens=10, answers=1, failures={}, rss_mib=[], rss_slope_mib_per_min=0.9, share=0.3
    )
    direct = result("direct", 0, 0, p50_ms=0.2)
    return Run({}, direct, {one.name: one for one in contenders}, soak)


def held(changed: Run) -> list[bool]:
    """Return the verdicts in their order."""
    return [verdict.held for verdict in judge(changed)]


def test_every_bar_can_hold() -> None:
    """Figures that just reach their bars hold them."""
    assert last_line(judge(run())) == "7 of 7 bars held"


@pytest.mark.parametrize(
    ("bar", "contender"),
    [
        (0, result("smg", 99, 17)),
        (1, result("litellm", 3990, 800)),
        (2, result("smg", 100, 16)),
        (3, result("nginx", 20, 9.9)),
        (4, result("gateway", 100, 22, p50_ms=1.8)),
    ],
    ids=["request against SMG", "LiteLLM", "chunk against SMG", "chunk against nginx", "added latency"],
)
def test_one_figure_breaks_one_bar(bar: int, contender: Result) -> None:
    """A figure a little worse breaks its own bar and no other."""
    changed = run()
    changed.results[contender.name] = contender
    assert [index for index, good in enumerate(held(changed)) if not good] == [bar]


def test_a_busy_contender_tells_nothing_of_chunks() -> None:
    """Above 60 % of a core the cost of a chunk does not count, however low."""
    changed = run()
    changed.results["gateway"] = result("gateway", 100, 1, p50_ms=1.6, share=0.61)
    assert held(changed) == [True, True, False, False, True, True, True]
    assert "more than 60%" in judge(changed)[2].found


def test_a_peer_that_failed_breaks_its_bars_and_says_why() -> None:
    """What could not be measured did not hold, even with figures of earlier rounds."""
    changed = run()
    changed.results["smg"].failure = "it ended with status 3:\nlong log"
    assert held(changed) == [False, True, False, True, True, True, True]
    assert judge(changed)[0].found == "not measured (smg: it ended with status 3:)"


def test_a_peer_left_out_breaks_its_bars() -> None:
    """Leaving a contender out is no way to hold a bar."""
    changed = run()
    del changed.results["litellm"]
    assert held(changed) == [True, False, True, True, True, True, True]


@pytest.mark.parametrize(
    ("changes", "bars"),
    [
        ({"failures": {"token lost, doubled or out of order": 1}}, [5]),
        ({"answers": 0}, [5]),
        ({"rss_slope_mib_per_min": 1.0}, [6]),
    ],
    ids=["a token lost", "nothing ran", "memory grows"],
)
def test_the_soak_has_bars_of_its_own(changes: dict[str, object], bars: list[int]) -> None:
    """One lost token or a growing process is enough."""
    changed = run()
    assert changed.soak is not None
    changed.soak = replace(changed.soak, **changes)  # type: ignore[arg-type]
    assert [index for index, good in enumerate(held(changed)) if not good] == bars


def test_without_a_soak_its_bars_do_not_hold() -> None:
    """A short run never passes."""
    changed = run()
    changed.soak = None
    assert held(changed)[5:] == [False, False]


def test_ratios_pair_neighbours_in_time() -> None:
    """A machine that slows down for one round hits both sides of that round's ratio."""
    changed = run()
    for name, base in (("gateway", 100.0), ("smg", 100.0)):
        slow = result(name, base * 3, 17).rounds[0]
        changed.results[name].rounds[1] = slow
    ratio = changed.ratio("gateway", "smg", lambda one: one.requests[32].cpu_us)
    assert ratio is not None
    assert (ratio.low, ratio.high) == (1.0, 1.0)
