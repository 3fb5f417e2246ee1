"""Values that contradict each other are refused in a sentence that names the mend."""

import re
from typing import Any

import pytest

from tests.helm.chart_docs import CHART
from tests.helm.rendering import refusal, render
from tests.helm_tools import Tool

INCREMENTAL = {"type": "NewClusterWithIncrementalUpgrade"}


def pool(**changes: Any) -> dict[str, Any]:
    """Return values that change the pool of gpt-oss-20b."""
    return {"config": {"serving": {"pools": {"gpt-oss-20b": changes}}}}


def group(**changes: Any) -> dict[str, Any]:
    """Return values that change the one worker group."""
    return {"ray": {"workerGroups": {"h100": changes}}}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "load test without a key": (
        {"loadtest": {"enabled": True}},
        "loadtest.enabled needs an API key: set loadtest.keySecret",
    ),
    "knee without objectives": (
        {"loadtest": {"enabled": True, "keySecret": "a", "plan": {"shape": {"kind": "knee"}}}},
        "needs objectives to break: set loadtest.objectives",
    ),
    "long name": ({"fullnameOverride": "x" * 48}, "has 48 characters, and KubeRay allows 47"),
    "name with a capital": ({"fullnameOverride": "A"}, "must begin with a letter and hold only lower-case"),
    "latest": (
        {"images": {"engine": {"tag": "latest"}}},
        "images.engine has neither a digest nor a fixed tag",
    ),
    "no tag": ({"images": {"gateway": {"tag": ""}}}, "images.gateway has neither a digest nor a fixed tag"),
    "no key secret": (
        {"secrets": {"create": False, "existing": {"secrets": "a", "rayAuth": "b", "redis": "c"}}},
        "secrets.create is false, so secrets.existing.keys must name a Secret",
    ),
    "another Secret of keys": (
        {"config": {"auth": {"keys": {"secret": "mine"}}}},
        'config.auth.keys.secret is "mine", but the gateway gets rights to "gpt-oss-cluster-keys"',
    ),
    "keys in another namespace": (
        {"config": {"auth": {"keys": {"namespace": "elsewhere"}}}},
        'config.auth.keys.namespace is "elsewhere", but the gateway gets rights in "ai" alone',
    ),
    "another port": (
        {"config": {"gateway": {"admin_listen": "0.0.0.0:9090"}}},
        'config.gateway.admin_listen is "0.0.0.0:9090", but Service, probes and network policies use',
    ),
    "no redis secret": (
        {"secrets": {"create": False, "existing": {"secrets": "a", "rayAuth": "b", "keys": "c"}}},
        "secrets.create is false, so secrets.existing.redis must name a Secret",
    ),
    "fault tolerance without redis": (
        {
            "ray": {"gcsFaultTolerance": {"enabled": True}},
            "redis": {"mode": "none"},
            "gateway": {"replicas": 1},
        },
        "ray.gcsFaultTolerance is enabled without a Redis",
    ),
    "fixed number and autoscaler": (
        {"gateway": {"replicas": 3, "autoscaling": {"enabled": True}}},
        "gateway.replicas is 3 and gateway.autoscaling is enabled: set one of them",
    ),
    "autoscaler upside down": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 7}}},
        "gateway.autoscaling.minReplicas is above maxReplicas",
    ),
    "gateways without redis": (
        {"redis": {"mode": "none"}},
        "2 gateways without Redis would each allow every tenant its whole limit",
    ),
    "gateways with limits in memory": (
        {"config": {"limits": {"store": "memory"}}},
        "2 gateways without Redis would each allow every tenant its whole limit",
    ),
    "external redis without address": (
        {"redis": {"mode": "external"}},
        "redis.mode is external, so config.limits.redis.url must say where",
    ),
    "address beside the built-in redis": (
        {"config": {"limits": {"redis": {"url": "redis://elsewhere"}}}},
        "config.limits.redis.url names a Redis, but redis.mode is builtin",
    ),
    "drain shorter than a stream": (
        {"config": {"gateway": {"stream": {"drain_s": 600}}}},
        "drain_s is 600, but a stream may take config.limits.max_request_s = 1800 seconds",
    ),
    "gateway's grace shorter than a stream": (
        {"gateway": {"terminationGracePeriodSeconds": 1800}},
        "gateway.terminationGracePeriodSeconds is 1800, but a stream may take 1800 seconds: it must be 1835",
    ),
    "ray's grace shorter than a stream": (
        {"ray": {"terminationGracePeriodSeconds": 60}},
        "ray.terminationGracePeriodSeconds is 60, but a stream may take 1800 seconds: it must be 1830",
    ),
    "old cluster gone before its streams": (
        {"ray": {"deletionDelaySeconds": 60}},
        "ray.deletionDelaySeconds is 60, but a stream may take 1800 seconds: it must be 1830",
    ),
    "unknown profile": (
        pool(profile="h100"),
        'pools.gpt-oss-20b.profile is "h100", which gpt-oss-20b does not have: choose one of cpu, gpu-16gb',
    ),
    "unknown worker group": (
        pool(worker_group="l4"),
        'pools.gpt-oss-20b.worker_group is "l4": name one of ray.workerGroups (h100)',
    ),
    "large model on a small GPU": (
        group(gpuMemoryGB=40),
        "puts gpt-oss-120b on ray.workerGroups.h100, whose GPUs have 40 GB: its weights take 64 GiB",
    ),
    "profile larger than the GPU": (
        group(gpuMemoryGB=24),
        "pools.gpt-oss-20b.profile gpu-80gb needs GPUs of 79.1 GiB, but those of ray.workerGroups.h100",
    ),
    "profile of another GPU": (
        group(accelerator="A100"),
        'profile h100-80gb is for H100, but ray.workerGroups.h100 has the accelerator "A100"',
    ),
    "no GPU": (
        group(gpus=0),
        "pools.gpt-oss-20b.profile gpu-80gb needs a GPU, but the workers of ray.workerGroups.h100 have none",
    ),
    "more replicas than GPUs": (
        pool(replicas={"min": 2, "max": 2}),
        "The pools of ray.workerGroups.h100 keep 3 replicas, one GPU each, but its workers have 2 GPUs",
    ),
    "weights elsewhere": (
        {"modelStorage": {"mountPath": "/weights"}},
        'config.models.gpt-oss-120b.source is "/models/gpt-oss-120b", which is not below',
    ),
    "workers upside down": (
        group(replicas={"min": 3, "max": 2}),
        "ray.workerGroups.h100.replicas: min 3 is above max 2",
    ),
    "workers that nobody adds": (
        group(replicas={"min": 2, "max": 4}),
        "ray.workerGroups.h100.replicas: min 2 and max 4 differ, but nothing would add workers",
    ),
    "variable of the chart": ({"ray": {"env": {"HF_HUB_OFFLINE": "0"}}}, "ray.env.HF_HUB_OFFLINE is set by"),
    "variable of the gateway": (
        {"gateway": {"env": {"DO_NOT_TRACK": "0"}}},
        "gateway.env.DO_NOT_TRACK is set by the chart",
    ),
    "incremental upgrade without autoscaler": (
        {"ray": {"upgradeStrategy": INCREMENTAL}},
        "NewClusterWithIncrementalUpgrade needs Ray's autoscaler: enable ray.autoscaling",
    ),
    "incremental upgrade without class": (
        {"ray": {"upgradeStrategy": INCREMENTAL}},
        "NewClusterWithIncrementalUpgrade needs ray.upgradeStrategy.gatewayClassName",
    ),
    "incremental upgrade without address": (
        {"ray": {"upgradeStrategy": INCREMENTAL}},
        "set config.serving.url to the address of its Service",
    ),
    "bundle without key": (
        {"prefetch": {"url": "https://mirror.example.com"}},
        "prefetch.url is set, so prefetch.publicKey must be the key (PEM)",
    ),
    "bundle for a folder": (
        {"prefetch": {"url": "https://mirror.example.com"}, "modelStorage": {"type": "hostPath"}},
        "prefetch.url fills a claim, but modelStorage.type is hostPath",
    ),
    "bundle for what nobody writes": (
        {
            "prefetch": {"url": "https://mirror.example.com"},
            "modelStorage": {"accessModes": ["ReadOnlyMany"]},
        },
        "prefetch.url fills the claim, but modelStorage.accessModes allow nobody to write",
    ),
    "two ways in": (
        {
            "ingress": {"enabled": True, "host": "a"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]},
        },
        "ingress and httpRoute are both enabled: choose the one",
    ),
    "ingress without host": (
        {"ingress": {"enabled": True}},
        "so ingress.host must be the name that clients use",
    ),
    "route without gateway": (
        {"httpRoute": {"enabled": True}},
        "so httpRoute.parentRefs must name a Gateway",
    ),
    "two certificates": (
        {"tls": {"secretName": "a", "certManager": {"enabled": True}}},
        "tls.secretName names a certificate and tls.certManager asks for another",
    ),
    "certificate without issuer": (
        {"tls": {"certManager": {"enabled": True}}},
        "so tls.certManager.issuerRef.name must name an issuer",
    ),
    "certificate for nothing": (
        {"tls": {"certManager": {"enabled": True, "issuerRef": {"name": "a"}}}},
        "tls.certManager.enabled is true, but there is no ingress to show the certificate",
    ),
    "incremental upgrade in too large steps": (
        {"ray": {"upgradeStrategy": {**INCREMENTAL, "maxSurgePercent": 5}}},
        "ray.upgradeStrategy.stepSizePercent is above maxSurgePercent",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_contradiction_is_told(helm: Tool, case: str) -> None:
    """In both majors of helm, with the same words."""
    values, sentence = CASES[case]
    assert sentence in refusal(helm, values)


def test_every_message_has_its_case(helm: Tool) -> None:
    """Each sentence of the template is what some case above is told."""
    told = "\n".join(refusal(helm, values) for values, _ in CASES.values())
    lines = (CHART / "templates" / "_validate.tpl").read_text().splitlines()
    sentences = [line for line in lines if re.search(r"\w+ \w+", line) and not line.startswith("{{-")]
    assert len(sentences) > 30
    for sentence in sentences:
        shape = ".*".join(re.escape(part) for part in re.split(r"\{\{.*?\}\}", sentence))
        assert re.search(shape, told), sentence


def test_all_contradictions_are_told_at_once(helm: Tool) -> None:
    """Nobody mends one only to meet the next."""
    said = refusal(helm, {"redis": {"mode": "none"}, **group(gpuMemoryGB=40)})
    assert "without Redis" in said
    assert "whose GPUs have 40 GB" in said


def test_the_defaults_contradict_nothing(helm: Tool) -> None:
    """An install needs no values."""
    assert render(helm).objects
