"""A replica's report to the routers: what is written is what is read."""

from cluster.core.engine import EngineLoad
from cluster.core.lanes import ByEffort, Demand
from cluster.core.routing import ReplicaView
from cluster.serving import report

DEMAND = Demand().plus("high", 8000, 12.5)


def test_what_a_replica_says_reaches_the_router() -> None:
    """Every figure, and what was sent to it since."""
    said = report.write(12.5, EngineLoad(2, 1, 0.25, 8), 900, ["low", "high", "low"], DEMAND)
    assert report.read("a", said, picked=3, picked_tokens=40) == ReplicaView(
        replica="a",
        stats_at_s=12.5,
        running=2,
        waiting=1,
        slots=8,
        kv_use=0.25,
        expected_tokens=900,
        by_effort=ByEffort(low=2, medium=0, high=1),
        demand=ByEffort(low=0, medium=0, high=8000),
        picked=3,
        picked_tokens=40,
    )


def test_an_older_release_says_less() -> None:
    """Its replicas are routed to by load while a rollout replaces them."""
    said = {"t": 12.5, "running": 2, "waiting": 1, "slots": 8, "kv_use": 0.25, "expected_tokens": 900}
    view = report.read("a", said)
    assert (view.running, view.expected_tokens) == (2, 900)
    assert (view.by_effort, view.demand) == (ByEffort(), None)


def test_a_newer_release_says_more() -> None:
    """What this one does not know is ignored, inside the figures by effort as beside them."""
    said = report.write(12.5, EngineLoad(2, 1, 0.25, 8), 900, ["low"], DEMAND)
    more = {**said, "by_effort": {**said["by_effort"], "extreme": 4}, "watts": 700}
    assert report.read("a", more) == report.read("a", said)


def test_before_its_first_report_nothing_is_known() -> None:
    """Serve shows an empty dict then, or none."""
    assert report.read("a", {}) == report.read("a", None) == ReplicaView(replica="a", stats_at_s=None)
