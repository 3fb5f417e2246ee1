"""The chart's `config` is the settings document, and its Serve config what the serving code itself writes."""

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest

from cluster import settings as document
from cluster.serving import deploy, profiles
from tests.helm.chart_docs import CHART, files
from tests.helm.rendering import RELEASE, Rendered, refusal, render, value_files
from tests.helm_tools import Tool


def every_rendering(helm: Tool) -> list[tuple[str, Rendered]]:
    """Render the defaults and each file of values."""
    return [("defaults", render(helm)), *((path.name, render(helm, None, path)) for path in value_files())]


def parsed(rendered: Rendered) -> document.Settings:
    """Load what was rendered with the real settings model."""
    return document.parse(rendered.settings, origin="rendered")


@pytest.mark.parametrize("name", ["values.schema.json", "files/serving.json", "README.md"])
def test_generated_files_are_what_they_follow_from(name: str) -> None:
    """``python -m tests.helm.chart_docs`` writes them."""
    assert (CHART / name).read_text() == files()[name]


def test_every_rendered_document_loads(helm: Tool) -> None:
    """The gateway accepts what it would be given, and every pool's profile fits its GPU."""
    for _, rendered in every_rendering(helm):
        for pool in parsed(rendered).serving.pools.values():
            profiles.memory_plan(pool)


def test_config_is_rendered_as_it_stands(helm: Tool) -> None:
    """What a site sets arrives, numbers too, and beats what the chart would have set."""
    given: dict[str, Any] = {
        "gateway": {"max_body_bytes": 4_194_305, "costs_file": "/elsewhere"},
        "logging": {"level": "debug"},
        "limits": {"defaults": {"tokens_per_min": 99_999_999}},
    }
    found = render(helm, {"config": given}).settings
    assert found["gateway"]["max_body_bytes"] == 4_194_305
    assert found["gateway"]["costs_file"] == "/elsewhere"
    assert found["logging"] == {"level": "debug"}
    assert found["limits"]["defaults"] == {"tokens_per_min": 99_999_999}


def test_the_chart_adds_what_it_knows(helm: Tool) -> None:
    """Addresses, the paths of mounted secrets, the Secret of keys, and the drain of the one clock."""
    found = parsed(render(helm))
    assert found.serving.url == f"http://{RELEASE}-serve-svc:8000"
    assert found.limits.redis is not None
    assert found.limits.redis.url == f"redis://{RELEASE}-redis:6379"
    assert found.limits.redis.assumed_gateways == 2
    assert found.auth.keys == document.KeySecretSettings(
        secret=f"{RELEASE}-keys", snapshot_file=Path("/var/lib/gpt-oss-cluster/keys.json")
    )
    assert found.gateway.stream.drain_s == found.limits.max_request_s == 1800


def test_a_misspelt_setting_is_refused(helm: Tool) -> None:
    """The schema of the values holds that of the settings document."""
    said = refusal(helm, {"config": {"gateway": {"listn": "0.0.0.0:1"}}})
    assert "config" in said
    assert "listn" in said


def test_an_unknown_value_is_refused(helm: Tool) -> None:
    """At the top and further down."""
    assert "nmae" in refusal(helm, {"nmae": 1})
    assert "replicsa" in refusal(helm, {"gateway": {"replicsa": 1}})
    assert "gpu_memory" in refusal(helm, {"ray": {"workerGroups": {"h100": {"gpu_memory": 1}}}})


def test_the_serve_config_is_the_serving_codes_own(helm: Tool) -> None:
    """An application for each pool, equal to `deploy.deploy_config` once both have their defaults."""
    for name, rendered in every_rendering(helm):
        found, wanted = rendered.serve, deploy.deploy_config(parsed(rendered), host="0.0.0.0")
        assert [app["name"] for app in found["applications"]] == sorted(
            app["name"] for app in wanted["applications"]
        ), name
        for config in (found, wanted):
            config["applications"].sort(key=lambda app: app["name"])
            for app in config["applications"]:
                app["args"]["settings"] = document.parse(app["args"]["settings"], origin="args")
        # where the gateway goes may be another port: of what shifts traffic in an incremental upgrade
        assert found.pop("http_options") == {"host": "0.0.0.0", "port": 8000}, name
        del wanted["http_options"]
        assert found == wanted, name


def test_every_import_path_can_be_imported(helm: Tool) -> None:
    """A path that nobody has is a mistake that only shows on a cluster."""
    for _, rendered in every_rendering(helm):
        for app in rendered.serve["applications"]:
            policy = app["deployments"][0]["autoscaling_config"]["policy"]["policy_function"]
            for path in (app["import_path"], policy):
                module, _, attribute = path.partition(":")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Ray's own, at import
                    assert callable(getattr(importlib.import_module(module), attribute))


def test_ray_pods_have_every_variable_that_serving_demands(helm: Tool) -> None:
    """On the head too: Serve reads them at import, in each of its processes."""
    for name, rendered in every_rendering(helm):
        wanted = deploy.environment(parsed(rendered))
        for pod, template in rendered.pods().items():
            if not pod.startswith("RayService"):
                continue
            [container] = template["spec"]["containers"]
            found = {entry["name"]: entry["value"] for entry in container["env"]}
            assert found.items() >= wanted.items(), (name, pod)


def test_a_pool_serves_where_its_worker_group_is(helm: Tool) -> None:
    """Each group gives the resource that the replicas of its pools ask for."""
    for name, rendered in every_rendering(helm):
        groups = {group["groupName"]: group["resources"] for group in rendered.cluster["workerGroupSpecs"]}
        for pool in parsed(rendered).serving.pools.values():
            assert pool.worker_group is not None, name
            assert groups[pool.worker_group][f"worker_group:{pool.worker_group}"] == "1", name


def test_tuning_changes_no_pod(helm: Tool) -> None:
    """Pools, limits and logs are in the Serve config and the settings; Ray's pods stay as they are."""
    before = render(helm).cluster
    tuned = {
        "config": {
            "serving": {"pools": {"gpt-oss-120b": {"max_num_seqs": 16, "routing": {"lanes": 2}}}},
            "logging": {"level": "debug"},
            "auth": {"keys": {"source": "file"}},
        }
    }
    assert render(helm, tuned).cluster == before


def test_nothing_of_the_charts_version_reaches_ray_pods(helm: Tool, tmp_path: Path) -> None:
    """A new version of the chart alone restarts no replica."""
    changed = tmp_path / "chart"
    for path in CHART.rglob("*"):
        if path.is_file():
            target = changed / path.relative_to(CHART)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    about = changed / "Chart.yaml"
    about.write_text(about.read_text().replace("0.1.0", "9.8.7"))
    rendered = render(helm, chart=changed)
    assert "9.8.7" in str(rendered.named("RayService")["metadata"])
    assert rendered.named("RayService")["spec"] == render(helm).named("RayService")["spec"]
