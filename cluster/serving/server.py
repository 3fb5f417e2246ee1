"""A pool of vLLM replicas: Ray's LLM server around vLLM's own app, with our edge, counts and start checks."""

from pathlib import Path
from typing import Any

from ray import serve

# Private, though Ray's guide on callbacks imports it from there: no public name exists.
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_openai_app
from ray.serve.llm.deployment import LLMServer

from cluster.serving import harmony, last_words, profiles
from cluster.serving import pool as pools
from cluster.serving.checkpoint import require_checkpoint, require_vocabulary
from cluster.serving.gauges import LoadGauges
from cluster.serving.hidden import honour_include_reasoning
from cluster.serving.meter import Ledger, SchedulerObserver, metered
from cluster.serving.middleware import EngineEdge
from cluster.serving.warmup import warm_up

POOL = "gpt_oss_cluster"
"""Key of our own settings in `LLMConfig.experimental_configs`, which reaches the replica."""


class EngineStartError(RuntimeError):
    """vLLM died while it started; the message ends with its last log lines."""


class LocalCheckpoint(CallbackBase):
    """Tells Ray not to download: the checkpoint is a directory, and its task would import vLLM once more."""

    async def on_before_node_init(self) -> None:
        """Skip the download."""
        self.ctx.run_init_node = False


class GptOssServer(LLMServer):
    """One replica: checks what it loads, starts vLLM, and answers only once it has answered itself."""

    async def __init__(self, llm_config: LLMConfig) -> None:  # type: ignore[misc]  # Ray awaits it
        """Start the engine. Raises `EngineStartError`, and `CheckpointError` for wrong or missing files."""
        self._pool = pools.Pool.model_validate(llm_config.experimental_configs[POOL])
        self._key = pools.read_engine_key(self._pool.engine_key_file)
        require_vocabulary(self._pool.vocabulary_dir)
        require_checkpoint(Path(self._pool.source))
        harmony.self_test()
        self._ledger = Ledger(int(profiles.engine_flags(self._pool.settings)["max_num_seqs"]))
        self._gauges = LoadGauges(self._pool.name, serve.get_replica_context().replica_id.unique_id)
        try:
            await super().__init__(llm_config)
        except Exception as error:
            raise EngineStartError(f"{error}\n{last_words.of_this_process()}") from error

    async def __serve_build_asgi_app__(self) -> EngineEdge:
        """Return the app that Serve mounts, warm. Raises `cluster.serving.warmup.WarmUpError`."""
        app = await super().__serve_build_asgi_app__()  # type: ignore[no-untyped-call]
        client, responses = app.state.engine_client, app.state.openai_serving_responses
        client.generate = metered(client.generate)
        client.logger_manager.stat_loggers.append(SchedulerObserver(self._ledger))
        responses.create_responses = honour_include_reasoning(responses.create_responses)
        replica = serve.get_replica_context().replica_id.unique_id
        edge = EngineEdge(app, key=self._key, replica=replica, ledger=self._ledger)
        await warm_up(edge, model=self._pool.settings.model, key=self._key)
        return edge

    async def _start_engine(self) -> None:
        """Start the engine without Ray's usage report (private), whose actor takes 390 MB and calls home."""
        assert self.engine is not None
        await self.engine.start()  # type: ignore[no-untyped-call]

    async def check_health(self) -> None:
        """Say whether the replica is well; vLLM itself does not notice an engine that hangs.

        Raises `cluster.serving.meter.EngineStalledError`, and what vLLM says of a dead engine.
        """
        self._ledger.require_steps()
        await super().check_health()

    async def record_routing_stats(self) -> dict[str, Any]:
        """Return the replica's load for the routers."""
        report = self._ledger.routing_stats()
        self._gauges.show(report)
        return report

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the replica's load for the autoscaler."""
        return self._ledger.scaling_stats()


def build(pool: pools.Pool) -> Application:
    """Return the application of a vLLM pool."""
    return build_openai_app({"llm_configs": [llm_config(pool)]})


def llm_config(pool: pools.Pool) -> LLMConfig:
    """Return Ray's configuration of the pool."""
    profile = profiles.find(pool.settings.model, pool.settings.profile)
    gpu = {"GPU": 1} if profile.gpu_bytes else {}
    bundle = {"CPU": 1, **gpu, **pools.node_resources(pool)}
    return LLMConfig(
        model_loading_config={"model_id": pool.settings.model, "model_source": pool.source},
        server_cls=GptOssServer,
        accelerator_type=profile.accelerator,
        placement_group_config={"bundles": [bundle]},
        engine_kwargs=profiles.engine_flags(pool.settings),
        deployment_config={**pools.deployment_options(pool), "name": pool.name},
        callback_config={"callback_class": LocalCheckpoint},
        experimental_configs={POOL: pool.model_dump(mode="json")},
    )
