"""What a replica shows Prometheus beside Ray's and vLLM's own metrics: its requests by effort."""

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Gauge


class LoadGauges:
    """The load that a replica reports to the routers, as gauges; Ray puts ``ray_`` before their names."""

    def __init__(self, pool: str, replica: str) -> None:
        """Name the pool and the replica that they are of."""
        self._own = {"pool": pool, "replica": replica}
        self._requests = Gauge(
            "gptoss_replica_requests",
            description="Requests at this replica, running and waiting, by effort.",
            tag_keys=("pool", "replica", "effort"),
        )
        self._expected = Gauge(
            "gptoss_replica_expected_tokens",
            description="Output tokens that this replica's requests still have to generate, as expected.",
            tag_keys=("pool", "replica"),
        )

    def show(self, report: Mapping[str, Any]) -> None:
        """Show a report, as `cluster.serving.report.write` returns it."""
        for effort, requests in report["by_effort"].items():
            self._requests.set(requests, tags={**self._own, "effort": effort})
        self._expected.set(report["expected_tokens"], tags=self._own)
