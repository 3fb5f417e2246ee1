"""What Ray is told, and which changes restart replicas."""

from pathlib import Path
from typing import Any

import pytest
from ray._common.usage import usage_lib

from cluster import settings as document
from cluster.core.routing import Policy
from cluster.serving import deploy
from cluster.serving.pool import (
    EngineKeyError,
    Pool,
    deployment_options,
    node_resources,
    read_engine_key,
)
from cluster.settings import RoutingSettings, ScalingSettings


def settings(**changes: Any) -> document.Settings:
    """Return a document with two pools, ``changes`` merged over its sections."""
    models = ("gpt-oss-120b", "gpt-oss-20b")
    whole = {
        "version": 1,
        "serving": {
            "url": "http://127.0.0.1:8123",
            "engine_key_file": "/keys/engine",
            "pools": {
                name: {"model": name, "profile": "cpu", "engine": "sim", "replicas": {"min": 2, "max": 4}}
                for name in models
            },
        },
        "models": {name: {"pools": [name], "source": f"/models/{name}"} for name in models},
        "auth": {"keys": {"path": "/keys"}, "pepper_file": "/keys/pepper"},
        "limits": {"max_request_s": 1799.5},
    }
    return document.parse({**whole, **changes}, origin="test")


def args(settings: document.Settings) -> list[Any]:
    """Return what each application is built from."""
    return [entry["args"] for entry in deploy.deploy_config(settings, host="127.0.0.1")["applications"]]


def test_one_application_per_pool_at_its_own_prefix() -> None:
    """Name and route prefix are the pool's."""
    config = deploy.deploy_config(settings(), host="127.0.0.1")
    assert [(entry["name"], entry["route_prefix"]) for entry in config["applications"]] == [
        ("gpt-oss-120b", "/gpt-oss-120b"),
        ("gpt-oss-20b", "/gpt-oss-20b"),
    ]
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8123}


def test_replica_counts_change_in_place() -> None:
    """They are a deployment override and no argument, because another argument restarts every replica."""
    entry = deploy.deploy_config(settings(), host="127.0.0.1")["applications"][0]
    [override] = entry["deployments"]
    bounds = override["autoscaling_config"]
    assert (override["name"], override["num_replicas"]) == ("SimServer:gpt-oss-120b", "auto")
    assert (bounds["min_replicas"], bounds["max_replicas"]) == (2, 4)
    assert "replicas" not in str(entry["args"])


def test_what_scales_a_pool_is_its_own() -> None:
    """Its replicas know nothing of it, and Serve's own delays add nothing to it."""
    document = settings()
    pool = document.serving.pools["gpt-oss-20b"].model_copy(update={"scaling": ScalingSettings(slot_use=0.5)})
    config = deploy.autoscaling(pool)
    assert config["policy"]["policy_kwargs"]["slot_use"] == 0.5
    assert config["upscale_delay_s"] == config["downscale_delay_s"] == 0
    changed = document.model_copy(
        update={"serving": document.serving.model_copy(update={"pools": {"gpt-oss-20b": pool}})}
    )
    assert Pool.of("gpt-oss-20b", changed) == Pool.of("gpt-oss-20b", document)


@pytest.mark.parametrize(
    "section",
    [
        pytest.param({"gateway": {"listen": "127.0.0.1:1"}}, id="gateway"),
        pytest.param({"limits": {"max_request_s": 1799.5, "defaults": {"concurrent": 1}}}, id="limits"),
        pytest.param({"logging": {"level": "debug"}}, id="logging"),
        pytest.param({"auth": {"keys": {"path": "/new"}, "pepper_file": "/new"}}, id="auth"),
    ],
)
def test_a_change_elsewhere_restarts_no_replica(section: dict[str, Any]) -> None:
    """An application's arguments hold nothing that its replicas do not use."""
    assert args(settings(**section)) == args(settings())


def test_arguments_are_a_valid_document() -> None:
    """The part handed to a pool reads back as settings with that pool alone."""
    first = args(settings())[0]
    read = document.parse(first["settings"], origin="args")
    assert list(read.serving.pools) == [first["pool"]]
    assert Pool.of(first["pool"], read) == Pool.of(first["pool"], settings())


def test_the_one_clock_reaches_haproxy_and_the_replicas() -> None:
    """Neither ends a stream before the gateway's own limit; seconds are whole and rounded up."""
    assert deploy.clock_s(settings()) == 1830
    assert deploy.environment(settings())["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "1830"
    assert Pool.of("gpt-oss-20b", settings()).clock_s == 1830


def test_a_pools_weights_reach_its_routers() -> None:
    """They are a pool's own: another pool keeps the defaults."""
    document = settings()
    pool = document.serving.pools["gpt-oss-20b"].model_copy(update={"routing": RoutingSettings(lanes=0)})
    changed = document.model_copy(
        update={
            "serving": document.serving.model_copy(
                update={"pools": {**document.serving.pools, "gpt-oss-20b": pool}}
            )
        }
    )
    for name, weight in (("gpt-oss-20b", 0), ("gpt-oss-120b", 1)):
        router = deployment_options(Pool.of(name, changed))["request_router_config"]
        assert Policy(**router["request_router_kwargs"]["policy"]).lanes == weight


def test_every_variable_has_a_reason() -> None:
    """And no name stands twice."""
    rows = deploy.variables(settings())
    assert all(row.reason for row in rows)
    assert len({row.name for row in rows}) == len(rows)


def test_vocabulary_folder_is_set_only_when_given() -> None:
    """Otherwise each node's own variable holds."""
    assert "TIKTOKEN_ENCODINGS_BASE" not in deploy.environment(settings())


def test_engine_key_is_read_without_its_newline(tmp_path: Path) -> None:
    """An editor's trailing newline is no part of the key."""
    path = tmp_path / "key"
    path.write_text("secret\n")
    assert read_engine_key(path) == "secret"


@pytest.mark.parametrize(
    "content", [None, "", " \n", "sch\u00fcssel"], ids=["missing", "empty", "blank", "not ascii"]
)
def test_engine_key_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None) -> None:
    """The error names the setting and the file, and not what is in it."""
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(EngineKeyError, match=r"^serving\.engine_key_file") as error:
        read_engine_key(path)
    assert str(path) in str(error.value)
    assert "schl" not in str(error.value)


def test_a_pool_belongs_on_its_worker_group() -> None:
    """Its replicas ask for a trace of what only that group's nodes have; without a group, for nothing."""
    pool = Pool.of("gpt-oss-20b", settings())
    assert node_resources(pool) == {}
    tied = pool.model_copy(update={"settings": pool.settings.model_copy(update={"worker_group": "l4"})})
    assert node_resources(tied) == {"worker_group:l4": 0.001}


def test_even_a_report_that_reports_are_off_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray 2.60 sends one where the cluster is not of `ray.init`; the variable is what it reads."""
    for name, value in deploy.environment(settings()).items():
        monkeypatch.setenv(name, value)
    assert not usage_lib.usage_stats_enabled()
    url = usage_lib._usage_stats_report_url()  # type: ignore[no-untyped-call]
    assert url == "http://127.0.0.1:9"
