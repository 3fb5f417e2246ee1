"""What arrives in the simulation."""

from statistics import fmean

import pytest

from cluster.core.effort import EFFORTS
from loadtest.fleet.workload import MEAN_TOKENS, Arrivals, Stream, Workload, mean_tokens

MIX = (0.6, 0.3, 0.1)


def workload(arrivals: Arrivals = "poisson", seed: int = 1, seconds: float = 2000) -> Workload:
    """Return 10 requests per second."""
    return Workload((Stream(10, MIX, arrivals=arrivals),), seconds, seed=seed)


@pytest.mark.parametrize("arrivals", ["poisson", "bursty"])
def test_rate_mix_and_lengths_are_as_asked(arrivals: Arrivals) -> None:
    """Over 20,000 requests, means are met within a few per cent."""
    jobs = workload(arrivals).jobs()
    assert len(jobs) == pytest.approx(20_000, rel=0.02 if arrivals == "poisson" else 0.1)
    for effort, share in zip(EFFORTS, MIX, strict=True):
        outputs = [job.output for job in jobs if job.effort == effort]
        assert len(outputs) / len(jobs) == pytest.approx(share, rel=0.05)
        assert fmean(outputs) == pytest.approx(MEAN_TOKENS[effort], rel=0.07)
    assert min(job.prompt for job in jobs) >= 200
    assert max(job.prompt for job in jobs) <= 8000
    assert mean_tokens(MIX) == pytest.approx(1490)


def test_bursty_arrivals_vary_more_than_poisson_ones() -> None:
    """Counts in five seconds: a Poisson process has a variance equal to its mean."""

    def dispersion(arrivals: Arrivals) -> float:
        counts = [0] * 400
        for job in workload(arrivals).jobs():
            counts[int(job.arrival_s / 5)] += 1
        mean = fmean(counts)
        return fmean((count - mean) ** 2 for count in counts) / mean

    assert dispersion("poisson") == pytest.approx(1, abs=0.25)
    assert dispersion("bursty") > 5


def test_a_seed_gives_the_same_requests() -> None:
    """And another seed gives others."""

    def shape(seed: int) -> list[tuple[float, str, int, int]]:
        return [
            (job.arrival_s, job.effort, job.prompt, job.output)
            for job in workload(seed=seed, seconds=20).jobs()
        ]

    assert shape(1) == shape(1)
    assert shape(1) != shape(2)


def test_a_stream_keeps_to_its_time() -> None:
    """A mix that changes is two streams."""
    early, late = Stream(10, MIX, until_s=50), Stream(10, MIX, tenant="late", from_s=50)
    jobs = Workload((early, late), 100).jobs()
    assert [job.arrival_s >= 50 for job in jobs] == [job.tenant == "late" for job in jobs]
    assert [job.number for job in jobs] == list(range(len(jobs)))


def test_lengths_are_those_of_the_site() -> None:
    """Mean outputs and the range of prompts can be told; a range of one length is that length."""
    site = Workload((Stream(10, (1, 0, 0)),), 2000, outputs=(100, 1, 1), prompt_tokens=(50, 50))
    jobs = site.jobs()
    assert fmean(job.output for job in jobs) == pytest.approx(100, rel=0.05)
    assert {job.prompt for job in jobs} == {50}
