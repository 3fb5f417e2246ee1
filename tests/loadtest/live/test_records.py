"""Records: a request's times from its events, and every figure from the records."""

from pathlib import Path

import pytest

from loadtest.live import figures, records
from loadtest.live.records import Timeline
from tests.loadtest.live.made import record, refused


def test_a_timeline_tells_first_token_answer_and_gaps() -> None:
    """Gaps lie between events of one kind: between kinds the format's own tokens pass."""
    line = Timeline(10.0)
    events = [("", 10.1), ("begun", 10.5), ("reasoning", 10.6), ("reasoning", 10.7), ("answer", 11.4)]
    for seen, at_s in [*events, ("answer", 11.5), ("end", 11.6)]:
        line.see(seen, at_s)  # type: ignore[arg-type]
    assert line.ttft_s == pytest.approx(0.5)
    assert line.answer_s == pytest.approx(1.4)
    assert line.chunks == 4
    assert line.gap_sum_s == pytest.approx(0.2)
    assert sum(line.gaps.values()) == 2


@pytest.mark.parametrize("gap_s", [1e-6, 3.7e-5, 0.0049, 0.05, 1.7, 40.0])
def test_a_bucket_knows_a_gap_to_one_percent(gap_s: float) -> None:
    """Over the whole range of times between tokens."""
    assert records.gap_s(records.bucket(gap_s)) == pytest.approx(gap_s, rel=0.0101)


def test_a_gap_of_nothing_has_a_bucket() -> None:
    """Two events in one piece come at the same time."""
    assert records.bucket(0.0) == 0


def test_a_record_comes_back_from_its_line(tmp_path: Path) -> None:
    """Lines are the whole truth of a run."""
    kept = [record(), refused(effort="high")]
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"".join(records.dump(one) + b"\n" for one in kept))
    assert list(records.read(path)) == kept


def test_figures_of_one_effort() -> None:
    """Refusals are errors and have no times; what the test itself cut off does not count."""
    kept = [record(ttft_s=float(n), e2e_s=10.0 + n) for n in range(1, 11)]
    found = figures.of([*kept, refused(), record(outcome="unfinished", ttft_s=99.0)])
    assert (found.count, found.good) == (11, 10)
    assert found.error_share == pytest.approx(1 / 11)
    assert found.errors == {"refused: server_is_overloaded": 1}
    assert found.ttft_s is not None
    assert (found.ttft_s.p50, found.ttft_s.p95, found.ttft_s.mean) == (5.0, 10.0, 5.5)
    assert found.e2e_s is not None
    assert found.e2e_s.p90 == 19.0
    assert found.inter_token_s is not None
    assert found.inter_token_s.mean == pytest.approx(0.01)
    assert found.inter_token_s.p99 == pytest.approx(0.01, rel=0.011)
    assert found.inter_token_s.count == 90
    assert found.output_tokens == 100


def test_the_p99_is_of_all_gaps_and_not_of_streams() -> None:
    """One long silence among a hundred tokens is beyond the p99, two are not."""
    hundred = record(gaps={records.bucket(0.01): 98, records.bucket(2.0): 2}, gap_sum_s=0.98 + 4.0)
    found = figures.of([hundred])
    assert found.inter_token_s is not None
    assert found.inter_token_s.p99 == pytest.approx(2.0, rel=0.011)
    assert found.inter_token_s.p95 == pytest.approx(0.01, rel=0.011)


def test_nothing_measured_is_told_as_nothing() -> None:
    """No figure is made up where no request got so far."""
    found = figures.of([refused()])
    assert found.ttft_s is found.e2e_s is found.inter_token_s is found.tokens_per_s is None


def test_throughput_counts_answers_where_they_end() -> None:
    """Only whole answers, only in the stretch."""
    kept = [record(at_s=100.0 + n, e2e_s=1.0, output_tokens=50) for n in range(10)]
    found = figures.rates([*kept, refused(at_s=103.0)], 103.0, 108.0)
    assert (found.requests_per_s, found.tokens_per_s) == (1.0, 50.0)


def test_the_speed_of_a_stream() -> None:
    """Tokens after the first, by the time since the first; hidden ones count."""
    assert record(output_tokens=91, ttft_s=0.1, e2e_s=1.0).tokens_per_s == pytest.approx(100.0)
    assert refused().tokens_per_s is None
