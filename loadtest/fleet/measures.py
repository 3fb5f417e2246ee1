"""What a run comes to: waits, refusals, pace and tokens, by effort and tenant, of the requests that count."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cluster.core.effort import EFFORTS, Effort
from loadtest.bench.statistics import percentile
from loadtest.fleet.simulation import Outcome
from loadtest.fleet.workload import WARM_S, Job


@dataclass(frozen=True, slots=True)
class Group:
    """Requests of one kind that came once the fleet was warm; a figure is NaN where there is none of them."""

    requests: int
    refused: float
    """Share that was refused."""
    lost: float
    """Share whose replica died."""
    late: int
    """Requests that got their first slot after their deadline, or were refused after it."""
    wait_p95_s: float
    """Until it ran or was refused."""
    first_p95_s: float
    """Until its first token, of those that were served."""
    token_p95_ms: float
    """Between tokens: the mean over a request, of which this is the percentile over requests."""
    end_p95_s: float
    """From arrival to the last token."""
    tokens_per_s: float
    """Of requests that ended between the end of the warm-up and the last arrival."""


@dataclass(frozen=True, slots=True)
class Measures:
    """One run."""

    by_effort: dict[Effort, Group]
    by_tenant: dict[str, Group]
    generated_per_s: float
    """Tokens that the fleet generated, ended or not, from the end of the warm-up to the last arrival."""

    @property
    def tokens_per_s(self) -> float:
        """Tokens of completed requests."""
        return sum(group.tokens_per_s for group in self.by_effort.values())


def measure(outcome: Outcome, until_s: float, since_s: float = WARM_S) -> Measures:
    """Return what ``outcome`` comes to; requests arrived up to ``until_s``, and count from ``since_s`` on."""
    tenants = sorted({job.tenant for job in outcome.jobs})
    return Measures(
        {
            effort: _group([job for job in outcome.jobs if job.effort == effort], since_s, until_s)
            for effort in EFFORTS
        },
        {
            name: _group([job for job in outcome.jobs if job.tenant == name], since_s, until_s)
            for name in tenants
        },
        _rate(outcome.generated, since_s, until_s),
    )


def _group(jobs: Sequence[Job], since_s: float, until_s: float) -> Group:
    came = [job for job in jobs if job.arrival_s >= since_s]
    served = [job for job in came if job.end_s is not None]
    waits = [job.wait_s for job in came if job.start_s is not None or job.refused_s is not None]
    ends = [job.end_s - job.arrival_s for job in served if job.end_s is not None]
    window = [job.output for job in jobs if job.end_s is not None and since_s <= job.end_s <= until_s]
    return Group(
        requests=len(came),
        refused=_share(came, lambda job: job.refused_s is not None),
        lost=_share(came, lambda job: job.lost),
        late=sum(job.arrival_s + wait > job.deadline_s + 1e-6 for job, wait in _waits(came)),
        wait_p95_s=_percentile(waits, 0.95),
        first_p95_s=_percentile(
            [job.first_s - job.arrival_s for job in served if job.first_s is not None], 0.95
        ),
        token_p95_ms=_percentile([job.token_s * 1e3 for job in served], 0.95),
        end_p95_s=_percentile(ends, 0.95),
        tokens_per_s=sum(window) / (until_s - since_s),
    )


def _waits(jobs: Iterable[Job]) -> Iterable[tuple[Job, float]]:
    return ((job, job.wait_s) for job in jobs if job.start_s is not None or job.refused_s is not None)


def _share(jobs: Sequence[Job], holds: Callable[[Job], bool]) -> float:
    return sum(map(holds, jobs)) / len(jobs) if jobs else 0.0


def _percentile(values: Sequence[float], share: float) -> float:
    return percentile(values, share) if values else float("nan")


def _rate(generated: Sequence[tuple[float, float]], since_s: float, until_s: float) -> float:
    counted = [(at_s, tokens) for at_s, tokens in generated if since_s <= at_s <= until_s]
    if len(counted) < 2:
        return 0.0
    (first_s, first), (last_s, last) = counted[0], counted[-1]
    return (last - first) / (last_s - first_s)
