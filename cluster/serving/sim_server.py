"""One simulated engine as a Serve replica: the same routers, HAProxy and headers, without vLLM.

Apart from `cluster.serving.sim_app`, so that a replica need not import what only building needs.
"""

from typing import Any

from ray import serve

from cluster.serving import pool as pools
from cluster.serving.gauges import LoadGauges
from cluster.serving.sim import MAX_MODEL_LEN, SimulatedApp, create_app


class SimServer:
    """One replica around the simulated engine."""

    def __init__(self, pool: pools.Pool) -> None:
        """Read the engine key. Raises `cluster.serving.pool.EngineKeyError`."""
        replica = serve.get_replica_context().replica_id.unique_id
        self._gauges = LoadGauges(pool.name, replica)
        self._app: SimulatedApp = create_app(
            pool.settings.sim,
            model=pool.settings.model,
            replica=replica,
            engine_key=pools.read_engine_key(pool.engine_key_file),
            faults=pool.settings.sim.faults,
            max_model_len=pool.settings.max_model_len or MAX_MODEL_LEN,
        )

    async def __serve_build_asgi_app__(self) -> SimulatedApp:
        """Return the app that Serve mounts."""
        return self._app

    def record_routing_stats(self) -> dict[str, Any]:
        """Return the replica's load for the routers."""
        report = self._app.routing_stats
        self._gauges.show(report)
        return report

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the replica's load for the autoscaler."""
        return self._app.scaling_stats
