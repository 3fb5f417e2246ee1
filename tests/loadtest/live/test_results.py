"""A run as a whole: its verdict, its doubts, its page, and its way to disk and back."""

import re
from pathlib import Path

import orjson
import pytest

from loadtest.live import page, plot, records, report, results, slo
from loadtest.live.collect import Sample
from loadtest.live.knee import Level
from loadtest.live.plan import Plan
from loadtest.live.slo import Objective, Objectives
from tests.loadtest.live.made import record, refused, run

FAST = Objectives(efforts={"low": Objective(ttft_s={"p95": 0.5})}, least=1)


def sample(**changes: float | str) -> Sample:
    """Return what an idle generator does."""
    given = {
        "at_s": 1001.0,
        "worker": "a",
        "users": 3,
        "cpu": 0.2,
        "cpu_s": 0.01,
        "chunks": 100,
        "late_ms": 1.0,
    }
    return Sample(**{**given, **changes})  # type: ignore[arg-type]


def test_a_run_holds_when_every_objective_does() -> None:
    """And does not when one breaks."""
    assert run([record()], objectives=FAST).held
    assert not run([record(ttft_s=0.6)], objectives=FAST).held


def test_a_run_without_an_answer_holds_nothing() -> None:
    """Also without objectives: a load test of a wall is no success."""
    assert not run([refused()]).held
    assert not run([]).held
    assert run([record()]).held


def test_a_warm_up_does_not_count() -> None:
    """Requests sent in it are recorded, and not judged."""
    kept = [record(at_s=1000.0, ttft_s=9.0), record(at_s=1010.0)]
    warmed = Plan(warm_up_s=10.0)
    assert not run(kept, objectives=FAST).held
    assert run(kept, objectives=FAST, plan=warmed).held


def test_a_knee_is_judged_by_whether_there_is_one() -> None:
    """The levels beyond it broke, as they should."""
    levels = (Level(4, True, (), 0.0, 1.0), Level(8, False, ("low: slow",), 1.0, 2.0))
    found = run([record(ttft_s=9.0)], objectives=FAST, levels=levels, knee=4)
    assert found.held
    assert found.verdicts()[0].found == "4 users held; then broke: low: slow"
    assert not run([record()], objectives=FAST, levels=levels[1:], knee=0).held


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([sample(cpu=0.81)], "the load generator was the bottleneck"),
        ([sample(late_ms=51.0)], "timers were up to 51 ms late"),
        ([], "too short to watch the load generator"),
    ],
    ids=["busy", "late", "not watched"],
)
def test_a_generator_that_is_in_doubt_is_warned_of(samples: list[Sample], told: str) -> None:
    """Its times are not the system's."""
    (warning,) = run([record()], samples=samples).warnings()
    assert told in warning


def test_an_idle_generator_is_not_warned_of() -> None:
    """No warning without a reason."""
    assert run([record()], samples=[sample()]).warnings() == []


def test_the_generator_s_cost_is_that_of_all_its_processes() -> None:
    """Each process's last sample has its sums."""
    samples = [
        sample(cpu_s=0.5, chunks=10),
        sample(cpu_s=1.0, chunks=100),
        sample(worker="b", cpu_s=1.0, chunks=100),
    ]
    used = run([record()], samples=samples).generator()
    assert used.processes == 2
    assert used.cpu_us_per_chunk == pytest.approx(10_000)


def test_a_run_comes_back_from_its_folder(tmp_path: Path) -> None:
    """With the same verdict, and with another one by other objectives."""
    kept = [record(), refused(effort="high")]
    (tmp_path / "requests.jsonl").write_bytes(b"".join(records.dump(one) + b"\n" for one in kept))
    (tmp_path / "generator.jsonl").write_bytes(b"")
    (tmp_path / "target.jsonl").write_bytes(b"")
    levels = (Level(4, True, ("x",), 0.0, 1.0),)
    first = run(kept, objectives=FAST, levels=levels, knee=4)
    report.write(first, tmp_path)
    again = results.load(tmp_path)
    assert again.document() == first.document()
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    strict = Objectives(efforts={"low": Objective(ttft_s={"p95": 0.01})}, least=1)
    assert results.load(tmp_path, strict).objectives == strict


def test_the_page_needs_nothing_else() -> None:
    """No link, no script, no file: it can be mailed; and what others wrote is escaped."""
    text = page.page(run([record(), refused(reason="<script>")], objectives=FAST), b"\x89PNG")
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert not re.findall(r"""(?:src|href)=['"](?!data:)""", text)
    assert "low: time to first token p95 at most 500 ms" in text
    assert "1 of 1 bars held" in text


@pytest.mark.parametrize(
    "kept",
    [[], [refused()], [record()] * 3, [record(at_s=1000.0 + n, effort="high") for n in range(50)]],
    ids=["nothing", "refusals", "same time", "many"],
)
def test_any_run_has_a_picture(kept: list[records.Record], tmp_path: Path) -> None:
    """Also one in which nothing worked."""
    levels = (Level(4, True, (), 1000.0, 1020.0), Level(8, False, ("x",), 1020.0, 1050.0))
    for number, found in enumerate((run(kept), run(kept, levels=levels, knee=4, samples=[sample()]))):
        plot.save(found, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_a_document_is_plain_json() -> None:
    """For scripts."""
    document = orjson.loads(orjson.dumps(run([record()], objectives=slo.load(slo.DEFAULT)).document()))
    assert document["figures"]["low"]["ttft_s"]["p95"] == 0.1
    assert document["held"] is False
