"""A local Ray with Serve for the demo and the tests: on loopback, watched until ready.

Whoever calls it marks the environment first (`cluster.processes`), and ends Ray and all that Ray started by
that mark: Serve's own shutdown drains for 30 s, and HAProxy and vLLM outlive a killed Ray.
"""

import http.client
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.core.memory import MemoryPlanError
from cluster.serving import deploy, profiles
from cluster.serving.checkpoint import CheckpointError, require_checkpoint, require_vocabulary
from cluster.serving.pool import EngineKeyError, read_engine_key
from cluster.serving.profiles import ProfileError
from cluster.settings import Settings

HOST = "127.0.0.1"
POLL_S = 1.0
LOGICAL_CPUS = 8
"""What Ray may hand out; engines share the real cores, and none is refused for want of a number."""
OBJECT_STORE_BYTES = 100 * 1024**2
"""Nothing large passes through Ray here."""
HEAD = {
    "RAY_enable_worker_prestart": "0",  # idle workers started ahead cost a second of CPU each
    "RAY_worker_niceness": "0",  # Ray would give its workers the leavings of every other program
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # vLLM would bind every engine to the same cores
    "OMP_NUM_THREADS": "1",  # two engines and what serves them share the cores
}
"""Ray settings for one small machine."""
UNSET = ("VLLM_CPU_KVCACHE_SPACE", "RAY_ADDRESS")
"""Variables that would override ours: whole GiB of cache per engine, another cluster."""


class LocalStartError(RuntimeError):
    """The cluster did not become ready; the message says which part and carries its last log lines."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a start stands."""

    application: str
    """Pool, or ``ray`` for the cluster itself."""
    status: str
    """Serve's status in lower case; ``ready`` once it answers over HTTP."""
    message: str
    elapsed_s: float


def start(settings: Settings, declared: dict[str, Any] | None = None) -> Iterator[Progress]:
    """Start Ray and every pool; yield each change until all are ready.

    ``declared`` takes the place of what `deploy.deploy_config` returns. Sets this process's environment, so
    call it before anything imports Ray. Raises `LocalStartError`.
    """
    begun = time.monotonic()
    key = _require_files(settings)
    os.environ.update({**HEAD, **deploy.environment(settings)})
    for name in UNSET:
        os.environ.pop(name, None)
    _start_ray(declared or deploy.deploy_config(settings, host=HOST))
    yield Progress("ray", "ready", "", time.monotonic() - begun)
    yield from _until_running(settings, begun)
    yield from _until_answering(settings, key, begun)


def _require_files(settings: Settings) -> str:
    """Check what the replicas would check half a minute later, and return the engine key."""
    try:
        for pool in settings.serving.pools.values():
            profiles.memory_plan(pool)
            if pool.engine == "vllm":
                require_vocabulary(settings.serving.vocabulary_dir)
                require_checkpoint(Path(settings.models[pool.model].source))
        return read_engine_key(settings.serving.engine_key_file)
    except (CheckpointError, EngineKeyError, ProfileError, MemoryPlanError) as error:
        raise LocalStartError(str(error)) from error


def _start_ray(declared: dict[str, Any]) -> None:
    import ray  # noqa: PLC0415 - reads the environment that `start` sets
    from ray import serve  # noqa: PLC0415 - the same

    # Private: the public way to deploy declaratively is the dashboard's REST API, and a dashboard is another
    # heavy process. `serve.run` would be public, but it restarts every replica at any later change.
    from ray.serve.context import _get_global_client  # noqa: PLC0415 - the same
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - the same

    config = ServeDeploySchema.model_validate(declared)
    ray.init(
        num_cpus=LOGICAL_CPUS,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address=HOST,
    )
    serve.start(http_options=config.http_options.model_dump())
    client = _get_global_client()
    assert client is not None, "serve.start has just made one"
    client.deploy_apps(config)


def _until_running(settings: Settings, begun: float) -> Iterator[Progress]:
    from ray import serve  # noqa: PLC0415 - reads the environment that `start` sets

    seen: dict[str, tuple[str, str]] = {}
    while True:
        applications = serve.status().applications
        for name, overview in applications.items():
            status, message = str(overview.status.value).lower(), _message(overview)
            if status in {"deploy_failed", "unhealthy"}:
                raise LocalStartError(f"{name}: {status}\n{_without_frames(message)}")
            if seen.get(name) != (status, message):
                seen[name] = (status, message)
                yield Progress(name, status, message, time.monotonic() - begun)
        if all(seen.get(name, ("", ""))[0] == "running" for name in settings.serving.pools):
            return
        time.sleep(POLL_S)


def _message(overview: Any) -> str:
    """Return the application's message, and those of its deployments that have one."""
    parts = [overview.message, *(deployment.message for deployment in overview.deployments.values())]
    return "\n".join(part for part in parts if part)


def _without_frames(message: str) -> str:
    """Return what Serve reports without its tracebacks' frames, which are all Ray's and the interpreter's."""
    lines = (line for line in message.splitlines() if not line.startswith(("  ", "Traceback ")))
    return "\n".join(lines)


def _until_answering(settings: Settings, key: str, begun: float) -> Iterator[Progress]:
    port = urlsplit(settings.serving.url).port or 80
    for name in settings.serving.pools:
        while not _answers(port, f"/{name}/v1/models", key):
            time.sleep(POLL_S)
        yield Progress(name, "ready", "", time.monotonic() - begun)


def _answers(port: int, path: str, key: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
