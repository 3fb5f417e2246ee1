"""The whole simulation: nothing gets lost, and it runs the product's own routing."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest

from cluster.core import routing
from cluster.core.hint import RouteHint
from cluster.core.lanes import ByEffort
from cluster.core.routing import Fleet, ReplicaView
from loadtest.fleet import routers
from loadtest.fleet.measures import Measures, measure
from loadtest.fleet.simulation import Change, Outcome, Setup, run
from loadtest.fleet.workload import Job, Stream, Workload

MIX = (0.6, 0.3, 0.1)
SMALL = Setup(Workload((Stream(8, MIX),), 150, seed=1), replicas=3)
"""About 0.6 of what three replicas can do."""


def requests(outcome: Outcome) -> Sequence[Job]:
    """Return those that came."""
    assert outcome.jobs
    return outcome.jobs


@pytest.mark.parametrize("policy", [routers.OURS, *routers.SIMPLE, *routers.splits(3)])
def test_every_request_ends(policy: str) -> None:
    """Under each policy all are served, with times in order, when there is room for all."""
    for job in requests(run(replace(SMALL, policy=policy, workload=replace(SMALL.workload, seconds=20)))):
        assert job.start_s is not None and job.first_s is not None and job.end_s is not None
        assert job.arrival_s <= job.start_s < job.first_s <= job.end_s
        assert job.token_s >= 0.003 or job.output == 1


def test_the_same_setup_gives_the_same_outcome() -> None:
    """To the last digit."""
    first, second = run(SMALL), run(SMALL)
    assert [(job.replica, job.end_s) for job in first.jobs] == [
        (job.replica, job.end_s) for job in second.jobs
    ]


def test_every_token_is_generated_once() -> None:
    """What the fleet counts is what the requests had, less the first token of each, which prefill gives."""
    outcome = run(replace(SMALL, workload=replace(SMALL.workload, seconds=20)))
    wanted = sum(job.output - 1 for job in outcome.jobs)
    assert outcome.generated[-1][1] == pytest.approx(wanted, rel=0.01)


def test_what_does_not_fit_is_refused_at_its_deadline() -> None:
    """Far above what the fleet can do, the bounded wait refuses nobody early and nobody late."""
    crowd = replace(SMALL, policy="least-requests", workload=Workload((Stream(60, MIX),), 60, seed=1))
    refused = [job for job in requests(run(crowd)) if job.refused_s is not None]
    assert len(refused) > 100
    assert all(job.refused_s == pytest.approx(job.deadline_s) for job in refused)
    assert all(job.start_s is None for job in refused)


def test_a_death_loses_only_what_had_begun_to_answer() -> None:
    """What had no token yet is sent to another replica; the dead one gets nothing until it is back."""
    changes = (Change(20.0, "fail", 0), Change(60.0, "start", 0))
    workload = Workload((Stream(20, MIX),), 90, seed=1)
    jobs = requests(run(replace(SMALL, workload=workload, changes=changes)))
    lost = [job for job in jobs if job.lost]
    assert lost
    assert all(job.replica == "r000" and job.first_s is not None and job.first_s <= 20 for job in lost)
    assert all(job.end_s or job.lost or job.refused_s for job in jobs)
    on_it = [job.start_s for job in jobs if job.replica == "r000" and job.start_s]
    assert any(start_s > 60 for start_s in on_it)
    assert not any(20 < start_s < 60 for start_s in on_it)


def test_a_prior_that_is_wrong_is_mended() -> None:
    """The gateways learn from what ends, as the product's do."""
    jobs = [job for job in requests(run(replace(SMALL, prior_factors=(3, 3, 3)))) if job.effort == "low"]
    assert jobs[0].expected == 1200
    assert jobs[-1].expected == pytest.approx(400, rel=0.25)


def _measures(setup: Setup) -> Measures:
    return measure(run(setup), setup.workload.seconds)


LANES = Setup(Workload((Stream(22, MIX),), 200, seed=1))
"""Eight replicas at 0.7."""


def _keeps_low_effort_fast() -> bool:
    """Tell whether low effort is faster under the product's routing than under least requests."""
    ours, plain = _measures(LANES), _measures(replace(LANES, policy="least-requests"))
    return ours.by_effort["low"].token_p95_ms < 0.85 * plain.by_effort["low"].token_p95_ms


def _sends_low_effort_to_its_lane() -> bool:
    """Tell whether the router keeps low effort out of the high lane, as its own tests do."""
    demand = ByEffort(400, 400, 400)
    views = [ReplicaView(name, 0.0, slots=8, running=2, demand=demand) for name in "abc"]
    fleet = Fleet(views, now_s=0.0)
    hint = RouteHint("low", expected_output_tokens=400, prompt_tokens=20)
    return fleet.choose(hint, tie=0.0).replica != "a"


def test_a_bug_in_the_core_is_seen_by_the_simulation_and_by_the_router(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Low effort takes the lane of high effort: both run the same code, so both fail."""
    assert _keeps_low_effort_fast()
    assert _sends_low_effort_to_its_lane()
    right = routing.lane
    monkeypatch.setattr(routing, "lane", lambda effort, membership: right("high", membership))
    assert not _keeps_low_effort_fast()
    assert not _sends_low_effort_to_its_lane()


def test_tokens_of_all_efforts_add_up() -> None:
    """Measures of efforts and tenants are parts of one whole."""
    found = _measures(LANES)
    assert found.tokens_per_s == pytest.approx(sum(group.tokens_per_s for group in found.by_tenant.values()))
    assert found.tokens_per_s > 0
    assert fmean([group.requests for group in found.by_tenant.values()]) == sum(
        group.requests for group in found.by_effort.values()
    )


def test_the_products_waiting_room_finds_the_capacity_by_itself() -> None:
    """Far above what the fleet can do, its slots are full, and nobody waits much past the deadline."""
    crowd = replace(SMALL, workload=Workload((Stream(60, MIX),), 60, seed=1))
    jobs = requests(run(crowd))
    assert sum(job.refused_s is not None for job in jobs) > 100
    ran = [job for job in jobs if job.start_s is not None and job.start_s < 50 and (job.end_s or 0) > 50]
    assert len(ran) >= 0.98 * 3 * 64
    late = [job for job in jobs if job.wait_s > job.deadline_s - job.arrival_s + 5]
    assert not late
