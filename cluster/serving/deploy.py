"""What Ray must be told before it starts, and the declarative Serve config of every pool.

Pure: no Ray here, so that the command line, the demo and the chart can ask without its cost.
"""

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cluster.core import hint
from cluster.settings import PoolSettings, Settings

IMPORT_PATH = "cluster.serving.app:build"
SCALING_POLICY = "cluster.serving.autoscaling:EffortScaling"
SCALING_REPORT_S = 1.0
"""Seconds between two reports of a replica to the autoscaler; Serve's default of 10 is two decisions late."""
SCALING_WINDOW_S = 2.0
"""Seconds that a report covers, more than lie between two; samples in it are a fifth of it apart."""
ROUTERS_PER_NODE = 2
"""Request routers beside each HAProxy: one takes over when the other dies or is replaced."""
NO_AUTH = {"keys": {"source": "file", "path": "/nonexistent"}, "pepper_file": "/nonexistent"}
"""What a replica is told of callers, whom only the gateway knows: a new issuer of tokens restarts nothing."""
GRACE_S = 30
"""Seconds that Serve and HAProxy allow beyond the longest request: the gateway's own limit acts first."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable that must be set before any Ray process starts, and why."""

    name: str
    value: str
    reason: str


NOWHERE = "http://127.0.0.1:9"
"""An address on which nothing listens (discard, RFC 863)."""


def variables(settings: Settings) -> tuple[Variable, ...]:
    """Return every variable; Serve reads them at import, in each of its processes."""
    clock = str(clock_s(settings))
    rows = [
        Variable(
            "RAY_SERVE_ENABLE_HA_PROXY", "1", "HAProxy in front of the replicas, not Serve's Python proxy"
        ),
        Variable(
            "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING", "1", "else Ray's own ingress, which lacks /v1/responses"
        ),
        Variable("RAY_SERVE_SESSION_ID_HEADER_KEY", hint.HEADER, "the one header that reaches the router"),
        Variable(
            "RAY_SERVE_INGRESS_ROUTER_REPLICAS_PER_NODE", "2", "one alone gives 503 for 6-8 s when it dies"
        ),
        Variable(
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", clock, "any scale event cuts streams older than this"
        ),
        Variable(
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S", clock, "a non-streamed answer is silent until its end"
        ),
        Variable(
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S",
            "3",
            "a dead HAProxy is replaced after three: 30 s by default",
        ),
        Variable(
            "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS", "1", "a hung replica would hold its requests to drain"
        ),
        Variable(
            "RAY_process_group_cleanup_enabled", "1", "a killed replica's EngineCore would keep the GPU"
        ),
        Variable("RAY_USAGE_STATS_ENABLED", "0", "no calls home"),
        Variable(
            "RAY_USAGE_STATS_REPORT_URL", NOWHERE, "Ray reports even that reports are off, beyond `ray.init`"
        ),
        Variable("VLLM_NO_USAGE_STATS", "1", "no calls home"),
        Variable("DO_NOT_TRACK", "1", "no calls home"),
        Variable("HF_HUB_OFFLINE", "1", "models come from a directory; no look-ups that time out offline"),
        Variable("TRANSFORMERS_OFFLINE", "1", "the same"),
    ]
    if settings.serving.vocabulary_dir is not None:
        folder = str(settings.serving.vocabulary_dir)
        rows.append(
            Variable("TIKTOKEN_ENCODINGS_BASE", folder, "openai-harmony would download its vocabulary")
        )
    return tuple(rows)


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables to set before Ray starts."""
    return {variable.name: variable.value for variable in variables(settings)}


def clock_s(settings: Settings) -> int:
    """Return the seconds that Serve gives a request: the one clock and a grace."""
    return math.ceil(settings.limits.max_request_s) + GRACE_S


def deployment_name(pool: str, settings: PoolSettings) -> str:
    """Return the name that the pool's replicas have in Serve; Ray puts the server class before it."""
    return f"{'GptOssServer' if settings.engine == 'vllm' else 'SimServer'}:{pool}"


def deploy_config(settings: Settings, *, host: str) -> dict[str, Any]:
    """Return the declarative config (`ServeDeploySchema`) of every pool, for HTTP on ``host``.

    Bounds of replicas stand in ``deployments`` and not in ``args``: there they change in place, while any
    change of ``args`` or of the policy restarts every replica of the application.
    """
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": urlsplit(settings.serving.url).port or 80},
        "applications": [_application(name, pool, settings) for name, pool in settings.serving.pools.items()],
    }


def _application(name: str, pool: PoolSettings, settings: Settings) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": IMPORT_PATH,
        "args": {"pool": name, "settings": _document(name, pool, settings)},
        "deployments": [
            {
                "name": deployment_name(name, pool),
                "num_replicas": "auto",
                "autoscaling_config": autoscaling(pool),
            }
        ],
    }


def autoscaling(pool: PoolSettings) -> dict[str, Any]:
    """Return Serve's autoscaling config of a pool.

    Pools of a fixed size have one too, with equal bounds: that the size may change from now on is then a
    change in place. The delays are the policy's own, which knows why it decides.
    """
    return {
        "min_replicas": pool.replicas.min,
        "max_replicas": pool.replicas.max,
        # Called deprecated, but the variable that is to follow it is not read in 2.60.
        "metrics_interval_s": SCALING_REPORT_S,
        "look_back_period_s": SCALING_WINDOW_S,
        "upscale_delay_s": 0,
        "downscale_delay_s": 0,
        "policy": {"policy_function": SCALING_POLICY, "policy_kwargs": pool.scaling.model_dump()},
    }


def _document(name: str, pool: PoolSettings, settings: Settings) -> dict[str, Any]:
    """Return the part of the document that a pool depends on, so that nothing else restarts it."""
    shown = pool.model_dump(mode="json", exclude={"replicas", "scaling"})
    serving = settings.serving.model_dump(mode="json", include={"engine_key_file", "vocabulary_dir"})
    return {
        "version": 1,
        "serving": {**serving, "pools": {name: shown}},
        "models": {pool.model: {"pools": [name], "source": settings.models[pool.model].source}},
        "limits": {"max_request_s": settings.limits.max_request_s},
        "auth": NO_AUTH,
    }
