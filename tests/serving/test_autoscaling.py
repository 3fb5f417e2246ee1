"""The autoscaling policy as Serve's controller runs it."""

import logging
import warnings
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.core.scaling import ReplicaLoad
from cluster.serving import deploy, report
from cluster.settings import PoolSettings, Replicas, ScalingSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    from ray.serve._private.autoscaling_state import _resolve_policy_callable
    from ray.serve._private.common import DeploymentID
    from ray.serve.autoscaling_policy import _apply_autoscaling_config
    from ray.serve.config import AutoscalingConfig, AutoscalingContext

    from cluster.serving.autoscaling import EffortScaling

POOL = PoolSettings(
    model="gpt-oss-20b",
    profile="cpu",
    replicas=Replicas(min=1, max=3),
    scaling=ScalingSettings(slot_tokens=1000, down_after_s=60),
)
HIGH = report.OpenRequest("high", 8000, started=True, age_s=9.0)
WAITING_LOW = report.OpenRequest("low", 400, started=False, age_s=2.5)


def config(pool: PoolSettings = POOL) -> AutoscalingConfig:
    """Return Serve's own config of a pool, made of what we deploy."""
    with pytest.warns(DeprecationWarning, match="metrics_interval_s"):
        return AutoscalingConfig(**deploy.autoscaling(pool))


def said(*replicas: list[report.OpenRequest], queued_tokens: float = 0) -> dict[str, dict[str, Any]]:
    """Return what Serve holds of reports of replicas with these requests in 8 slots each."""
    fields: dict[str, dict[str, Any]] = {"running_requests": {}}
    for number, requests in enumerate(replicas):
        fields["running_requests"][str(number)] = [SimpleNamespace(timestamp=0.0, value=99.0)]
        for field, value in report.write_scaling(8, requests, queued_tokens).items():
            earlier = SimpleNamespace(timestamp=0.0, value=8.0 if field == "slots" else 0.0)
            fields.setdefault(field, {})[str(number)] = [earlier, SimpleNamespace(timestamp=0.4, value=value)]
    return fields


def context(
    replicas: int, metrics: dict[str, dict[str, Any]] | None, now_s: float = 1000.0
) -> AutoscalingContext:
    """Return what Serve passes to a policy."""
    return AutoscalingContext(
        deployment_id=DeploymentID(name="SimServer:small", app_name="small"),
        deployment_name="SimServer:small",
        app_name="small",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=[],
        total_num_requests=99,
        total_queued_requests=0,
        aggregated_metrics={},
        raw_metrics=cast(Any, metrics),
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=3,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now_s,
        config=config(),
    )


def test_serve_runs_the_policy_of_the_config_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Named by its path, made once with the pool's settings, and not delayed by Serve."""
    made = _resolve_policy_callable(config().policy)
    policy = _apply_autoscaling_config(made)
    with caplog.at_level(logging.INFO, logger="ray.serve"):
        assert policy(context(1, said([HIGH] * 12)))[0] == 2
    assert "small: from 1 to 2 replicas: tokens" in caplog.text
    assert policy(context(2, said([], []), now_s=1030.0))[0] == 2
    assert policy(context(2, said([], []), now_s=1061.0))[0] == 1


def test_the_policys_settings_survive_serves_own_forms() -> None:
    """The controller stores and restores the config as a protobuf."""
    from ray.serve._private.config import DeploymentConfig  # noqa: PLC0415 - warns like the others

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored: bytes = DeploymentConfig(autoscaling_config=config()).to_proto_bytes()  # type: ignore[no-untyped-call]
        restored: Any = DeploymentConfig.from_proto_bytes(stored)
    assert restored.autoscaling_config.policy.policy_kwargs == POOL.scaling.model_dump()


def test_reports_are_read_as_they_were_written() -> None:
    """Of all samples the last counts."""
    assert report.read_scaling(said([HIGH, WAITING_LOW, HIGH], [], queued_tokens=700)) == [
        ReplicaLoad(8, 2, 16_000, 1, 400, 700, 2.5),
        ReplicaLoad(8, queued_tokens=700),
    ]


def test_a_wait_that_is_over_still_counts() -> None:
    """Of the last two seconds the longest wait does: a sample now and then misses most waits."""
    metrics = said([])
    metrics["low_wait_s"]["0"][0].value = 3.0
    assert report.read_scaling(metrics)[0].low_wait_s == 3.0


def test_only_low_effort_waits() -> None:
    """High effort that waits is work, and no wait."""
    waiting = HIGH._replace(started=False)
    assert report.write_scaling(8, [waiting], 0)["low_wait_s"] == 0


def test_replicas_of_another_release_count_as_far_as_they_tell() -> None:
    """One without a field has a zero there, one without slots is not read at all."""
    metrics = said([HIGH], [HIGH])
    del metrics["queued_tokens"], metrics["low_wait_s"], metrics["slots"]["1"]
    assert report.read_scaling(metrics) == [ReplicaLoad(8, 1, 8000)]
    assert report.read_scaling({"running_requests": {}}) == []


def test_before_the_first_report_nothing_changes() -> None:
    """Serve has nothing, or nothing of ours."""
    nothing: list[dict[str, dict[str, Any]] | None] = [None, {}, {"running_requests": {}}]
    for metrics in nothing:
        assert EffortScaling()(context(2, metrics)) == (2, {})
