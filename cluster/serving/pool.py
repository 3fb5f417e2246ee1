"""One pool as its replicas see it, and the Serve options that both kinds of replica share."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from cluster.serving import deploy
from cluster.settings import PoolSettings, Replicas, ScalingSettings, Settings

ROUTER = "cluster.serving.router.EffortRouter"
ROUTING_STATS_PERIOD_S = 0.4
"""Seconds between two reports of load to the routers; Serve's default of 10 leaves them blind."""
HEALTH_CHECK_PERIOD_S, HEALTH_CHECK_TIMEOUT_S = 5, 10
"""A replica that hangs fails three checks in a row within 35 s, and its requests end then; with Serve's
defaults of 10 and 30 s that took 90 s."""
START_ATTEMPTS = 2
"""Attempts to start a replica before its application fails; Serve's default of 20 hides a lasting error."""


class Pool(BaseModel):
    """What a replica needs of the settings document."""

    model_config = ConfigDict(frozen=True)

    name: str
    settings: PoolSettings
    source: str
    engine_key_file: Path
    vocabulary_dir: Path | None
    clock_s: int
    """Seconds that a stopping replica gives its requests."""

    @classmethod
    def of(cls, name: str, settings: Settings) -> Self:
        """Return the pool called ``name``, which the document has."""
        pool = settings.serving.pools[name]
        return cls(
            name=name,
            # How many there are is not a replica's affair.
            settings=pool.model_copy(update={"replicas": Replicas(), "scaling": ScalingSettings()}),
            source=settings.models[pool.model].source,
            engine_key_file=settings.serving.engine_key_file,
            vocabulary_dir=settings.serving.vocabulary_dir,
            clock_s=deploy.clock_s(settings),
        )


class EngineKeyError(RuntimeError):
    """The engine key's file is missing or empty."""


def read_engine_key(path: Path) -> str:
    """Return the key that every replica demands. Raises `EngineKeyError`."""
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineKeyError(f"serving.engine_key_file {path}: cannot be read: {error}") from error
    if not key:
        raise EngineKeyError(f"serving.engine_key_file {path}: is empty; put a random string there")
    return key


def node_resources(pool: Pool) -> dict[str, float]:
    """Return what ties the pool's replicas to its worker group: a trace of a resource that its nodes have.

    Without them a replica that runs on any GPU could take one that another pool's profile needs.
    """
    group = pool.settings.worker_group
    return {} if group is None else {f"worker_group:{group}": 0.001}


def deployment_options(pool: Pool) -> dict[str, Any]:
    """Return the Serve options of the pool's replicas."""
    return {
        # The declarative config says how many (`deploy.autoscaling`); without a number here Ray LLM adds a
        # config of its own to what the code says.
        "num_replicas": 1,
        "graceful_shutdown_timeout_s": pool.clock_s,
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
        "max_constructor_retry_count": START_ATTEMPTS,
        "request_router_config": {
            "request_router_class": ROUTER,
            "request_router_kwargs": {"policy": pool.settings.routing.model_dump()},
            "request_routing_stats_period_s": ROUTING_STATS_PERIOD_S,
        },
    }
