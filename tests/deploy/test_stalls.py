"""Each recorded stall gets the one right line."""

from dataclasses import replace
from datetime import timedelta

import pytest

from deploy import stalls
from deploy.release import Release
from tests.deploy.recorded import load, names, release

STALLS = names("stalls")


def test_twelve_and_more_stalls_are_recorded() -> None:
    """The records are there: a folder that moves does not make the tests below pass by being empty."""
    assert len(STALLS) >= 12


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_has_its_one_line(name: str) -> None:
    """The first stall told of a record is its cause, in the right words, and all else follows from it."""
    record = load(f"stalls/{name}")
    first, *others = stalls.find(release(f"stalls/{name}"))
    assert (first.code, str(first), first.lasting) == (record["code"], record["line"], record["lasting"])
    assert [each.code for each in others] == record.get("also", [])
    assert "\n" not in str(first)


@pytest.mark.parametrize("name", names("releases"))
def test_what_is_up_or_on_its_way_stalls_nowhere(name: str) -> None:
    """A release that is ready, or copies its weights, has no stall."""
    assert stalls.find(release(f"releases/{name}")) == ()


def later(name: str, minutes: float) -> Release:
    """Return a recorded release as it would look that many minutes later (or earlier), unchanged."""
    found = release(f"stalls/{name}")
    return replace(found, now=found.now + timedelta(minutes=minutes))


def test_a_gpu_may_become_free_for_five_minutes() -> None:
    """A pod that finds no GPU is told of at once, and counts as lasting after five minutes."""
    young = stalls.find(later("no-gpu", -18))
    assert [(each.code, each.lasting) for each in young] == [("no-gpu", False)]


def test_events_of_the_past_tell_nothing() -> None:
    """A refusal that its controller no longer repeats is over."""
    assert stalls.find(later("quota", 30)) == ()


def test_an_operator_has_a_minute() -> None:
    """A RayService without a status is no stall while it is young and an operator is there."""
    young = replace(later("operator-absent", -11.5), operator=True)
    assert stalls.find(young) == ()
    assert [
        each.code for each in stalls.find(replace(young, operator=None, now=young.now + timedelta(hours=1)))
    ]


def test_what_has_recovered_tells_nothing() -> None:
    """A container that died of its memory, or of a token, and is ready again, is no stall."""
    found = release("releases/ready")
    worker = found.workers(found.ray_cluster("active"))[0]
    (status,) = worker["status"]["containerStatuses"]
    words = "Token authentication is enabled but the authentication token is invalid or incorrect."
    ended = {"exitCode": 137, "reason": "OOMKilled", "message": words}
    status["lastState"] = {"terminated": ended}
    assert stalls.find(found) == ()
    status["ready"] = False
    assert [each.code for each in stalls.find(found)] == ["out-of-memory", "ray-token"]


def test_an_operator_has_five_minutes_to_submit() -> None:
    """A head that has just become ready has been told nothing yet, and that is no stall."""
    assert stalls.find(later("operator-cut-off", -15)) == ()
