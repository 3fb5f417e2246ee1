"""What a replica shows Prometheus is what it reports to the routers."""

from typing import Any

import pytest

from cluster.core.effort import EFFORTS
from cluster.serving.meter import Ledger

gauges = pytest.importorskip("cluster.serving.gauges")


class Recorded:
    """A gauge that remembers what it was set to."""

    values: dict[tuple[str, tuple[str, ...]], float]

    def __init__(self, name: str, *, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description.endswith(".")
        self.name, self.tag_keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Remember; a tag that was not declared is an error, as in Ray."""
        assert set(tags) == set(self.tag_keys)
        self.values[self.name, tuple(tags[key] for key in self.tag_keys)] = value


def test_a_report_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests by effort and expected tokens; an effort that nobody uses any more is shown as 0 again."""
    values: dict[Any, float] = {}
    monkeypatch.setattr(Recorded, "values", values, raising=False)
    monkeypatch.setattr(gauges, "Gauge", Recorded)
    ledger = Ledger(slots=4)
    shown = gauges.LoadGauges("small", "abc")
    meter = ledger.open(300, "high")
    ledger.open(200, "high")
    shown.show(ledger.routing_stats())
    assert values["gptoss_replica_requests", ("small", "abc", "high")] == 2
    assert values["gptoss_replica_expected_tokens", ("small", "abc")] == 500
    ledger.close(meter)
    shown.show(ledger.routing_stats())
    by_effort = {effort: values["gptoss_replica_requests", ("small", "abc", effort)] for effort in EFFORTS}
    assert by_effort == {"low": 0, "medium": 0, "high": 1}
