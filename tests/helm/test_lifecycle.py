"""The real chart through the life of a release: real helm, in both majors, and the commands on keys.

The cluster is `tests.kube`, which stores, checks and merges as a real API does; nothing runs on it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster.cli import app
from cluster.stores import secret_vault
from tests.conftest import ROOT, fetched
from tests.helm.chart_docs import CHART
from tests.helm_tools import Tool
from tests.kube.cluster import Cluster, running
from tests.kube.status import Object

RELEASE, NAMESPACE = "gpt", "serving"
NAME = "gpt-gpt-oss-cluster"
SECRETS = tuple(f"{NAME}-{entry}" for entry in ("keys", "secrets", "ray-auth", "redis"))
pytestmark = pytest.mark.integration
WAIT = ("--wait", "--timeout", "30s")
Run = Callable[..., Any]


@pytest.fixture
def release(helm: Tool, cluster: Cluster) -> Tool:
    """Return helm, with the chart installed on the cluster with nothing but defaults."""
    connected = cluster.connected(helm)
    connected("install", RELEASE, str(CHART), *WAIT)
    return connected


@pytest.fixture
def one_release(cluster: Cluster, tmp_path: Path) -> Tool:
    """Return the same of Helm 4 alone, where the major says nothing."""
    connected = cluster.connected(fetched("helm-4", tmp_path))
    connected("install", RELEASE, str(CHART))
    return connected


@pytest.fixture
def place(cluster: Cluster) -> tuple[str, ...]:
    """Return the options that lead commands to the release."""
    return "--release", RELEASE, "--namespace", NAMESPACE, "--kubeconfig", str(cluster.kubeconfig)


@pytest.fixture
def run(place: tuple[str, ...]) -> Run:
    """Return what runs a command on the release and checks its exit status."""

    def run(*arguments: str, status: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, *place])
        assert result.exit_code == status, result.output
        return result

    return run


def secrets(cluster: Cluster) -> dict[str, dict[str, bytes]]:
    """Return what the release's Secrets hold."""
    return {name: cluster.api.data(NAMESPACE, name) for name in SECRETS}


def found(cluster: Cluster, kind: str, name: str = NAME) -> Object:
    """Return an object of the release."""
    body = cluster.api.get(kind, name, NAMESPACE)
    assert body is not None, f"{kind} {name}"
    return body


def status_of(release: Tool) -> str:
    """Return what helm says of the release."""
    told: str = json.loads(release("status", RELEASE, "--output", "json").stdout)["info"]["status"]
    return told


def test_a_release_from_install_to_uninstall(release: Tool, cluster: Cluster) -> None:
    """With defaults: installed, tested, upgraded, rolled back; uninstalled it leaves Secrets and weights."""
    assert status_of(release) == "deployed"
    assert "Succeeded" in release("test", RELEASE, "--timeout", "30s").stdout
    release("upgrade", RELEASE, str(CHART), "--set", "config.logging.level=debug", *WAIT)
    settings = yaml.safe_load(found(cluster, "ConfigMap", f"{NAME}-config")["data"]["config.yaml"])
    assert settings["logging"]["level"] == "debug"
    release("rollback", RELEASE, "1", *WAIT)
    settings = yaml.safe_load(found(cluster, "ConfigMap", f"{NAME}-config")["data"]["config.yaml"])
    assert settings.get("logging", {}).get("level") != "debug"
    history = json.loads(release("history", RELEASE, "--output", "json").stdout)
    assert [entry["status"] for entry in history] == ["superseded", "superseded", "deployed"]
    release("uninstall", RELEASE, *WAIT)
    left = {
        kind.kind
        for kind, body in cluster.api.objects.store.all()
        if body["metadata"].get("namespace") == NAMESPACE
    }
    assert left == {"Secret", "PersistentVolumeClaim"}
    assert set(cluster.api.names("Secret", NAMESPACE)) == set(SECRETS)


def test_secrets_are_made_once(release: Tool, cluster: Cluster) -> None:
    """What an install made is the same after an upgrade, a rollback, and an install after an uninstall."""
    made = secrets(cluster)
    assert all(len(value) >= 32 for name in SECRETS[1:] for value in made[name].values())
    assert len({value for entries in made.values() for value in entries.values()}) == 4
    release("upgrade", RELEASE, str(CHART), "--set", "config.logging.level=debug")
    assert secrets(cluster) == made
    release("rollback", RELEASE, "1")
    assert secrets(cluster) == made
    release("uninstall", RELEASE)
    release("install", RELEASE, str(CHART))
    assert secrets(cluster) == made


def test_keys_outlive_upgrades(release: Tool, cluster: Cluster, run: Run) -> None:
    """Tenants and keys that were made between upgrades are there after each of helm's acts."""
    run("tenants", "set", "search")
    key = json.loads(run("keys", "create", "search", "--json").stdout)
    entries = {"tenant.search.json", f"key.{key['key_id']}.json"}
    for act in (
        ("upgrade", RELEASE, str(CHART), "--set", "config.logging.level=debug"),
        ("rollback", RELEASE, "1"),
        ("uninstall", RELEASE),
        ("install", RELEASE, str(CHART)),
    ):
        release(*act)
        assert set(cluster.api.data(NAMESPACE, SECRETS[0])) == entries, act
    run("keys", "rotate", key["key_id"])


def test_a_forced_upgrade_of_helm_3_loses_keys(cluster: Cluster, run: Run, tmp_path: Path) -> None:
    """`helm upgrade --force` of Helm 3 puts the chart's empty Secret in the place of the full one.

    That is what docs/operations.md warns of; Helm 4's `--force-conflicts` takes nothing away.
    """
    three, four = (cluster.connected(fetched(name, tmp_path)) for name in ("helm-3", "helm-4"))
    four("install", RELEASE, str(CHART))
    run("tenants", "set", "search")
    four("upgrade", RELEASE, str(CHART), "--force-conflicts")
    assert set(cluster.api.data(NAMESPACE, SECRETS[0])) == {"tenant.search.json"}
    three("upgrade", RELEASE, str(CHART), "--force")
    assert cluster.api.data(NAMESPACE, SECRETS[0]) == {}


def test_a_new_version_leaves_ray_alone(release: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """A chart of another version changes nothing of the RayCluster: no GPU is needed twice to upgrade."""
    before = found(cluster, "RayService")
    newer = tmp_path / "newer"
    shutil.copytree(CHART, newer)
    about = yaml.safe_load((newer / "Chart.yaml").read_text())
    (newer / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": "99.0.0", "appVersion": "99.0.0"}))
    release("upgrade", RELEASE, str(newer), *WAIT)
    after = found(cluster, "RayService")
    assert "99.0.0" in json.dumps(after["metadata"]["labels"])
    assert after["spec"]["rayClusterConfig"] == before["spec"]["rayClusterConfig"]


def test_helm_waits_for_the_gateway(helm: Tool, cluster: Cluster) -> None:
    """A gateway that does not become ready fails the install at its time-out; the next upgrade mends it."""
    connected = cluster.connected(helm)
    cluster.api.give("Deployment", "pending")
    late = connected("install", RELEASE, str(CHART), "--wait", "--timeout", "3s", check=False)
    assert late.returncode == 1
    assert status_of(connected) == "failed"
    made = secrets(cluster)
    cluster.api.give("Deployment", "done")
    connected("upgrade", RELEASE, str(CHART), *WAIT)
    assert (status_of(connected), secrets(cluster)) == ("deployed", made)


def test_a_test_that_fails_is_told(one_release: Tool, cluster: Cluster) -> None:
    """Where the pod of ``helm test`` ends badly, so does the command."""
    cluster.api.give("Pod", "failed")
    cluster.api.give("Job", "failed")
    failed = one_release("test", RELEASE, "--timeout", "20s", check=False)
    assert failed.returncode == 1
    assert "failed" in (failed.stdout + failed.stderr).lower()


@pytest.mark.parametrize("minor", ["1.30", "1.33"])
def test_older_kubernetes(tmp_path: Path, minor: str) -> None:
    """The chart's objects are good for older minors too, by their own strict schemas."""
    with running(tmp_path, minor=minor) as cluster:
        connected = cluster.connected(fetched("helm-4", tmp_path))
        connected("install", RELEASE, str(CHART), *WAIT)
        assert status_of(connected) == "deployed"


def test_unknown_values_are_refused(one_release: Tool) -> None:
    """A value that the chart does not know changes nothing."""
    refused = one_release("upgrade", RELEASE, str(CHART), "--set", "gateway.replica=3", check=False)
    assert refused.returncode == 1
    assert "replica" in refused.stderr


def test_the_gateway_may_follow_its_keys_and_no_more(
    one_release: Tool, cluster: Cluster, tmp_path: Path
) -> None:
    """Under the roles that the chart makes, the gateway's account lists and watches one Secret."""
    token = cluster.api.account_token(NAMESPACE, f"{NAME}-gateway")
    ctl = cluster.connected(fetched("kubectl", tmp_path), token)
    chosen = ("--field-selector", f"metadata.name={SECRETS[0]}")
    assert SECRETS[0] in ctl("get", "secrets", *chosen).stdout
    for refused in (
        ("get", "secrets"),
        ("get", "secret", SECRETS[0]),
        ("get", "secrets", "--field-selector", f"metadata.name={SECRETS[1]}"),
        ("get", "pods"),
        ("patch", "secret", SECRETS[0], "--type", "merge", "--patch", "{}"),
    ):
        assert "Forbidden" in ctl(*refused, check=False).stderr, refused


def test_writers_at_once_lose_nothing(one_release: Tool, cluster: Cluster, place: tuple[str, ...]) -> None:
    """Commands that change the Secret at the same time, each in a process of its own, all take effect."""
    names = [f"team-{at}" for at in range(3)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "cluster", "tenants", "set", name, *place],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name in names
    ]
    for process in started:
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 0, told.decode()
    assert set(cluster.api.data(NAMESPACE, SECRETS[0])) == {f"tenant.{name}.json" for name in names}


PASSING: list[Any] = [
    pytest.param(lambda api: api.fail(409, 2, "Conflict", verb="patch"), id="409"),
    pytest.param(lambda api: api.fail(429, 2, "TooManyRequests", verb="patch", retry_after_s=1), id="429"),
    pytest.param(lambda api: api.fail(500, 2, verb="patch"), id="500"),
    pytest.param(lambda api: api.drop_connections(2, verb="patch"), id="dropped"),
    pytest.param(lambda api: api.break_after_write(), id="dropped-after-the-write"),
]


@pytest.mark.parametrize("order", PASSING)
def test_a_fault_that_passes(
    one_release: Tool, cluster: Cluster, run: Run, order: Callable[[Any], None]
) -> None:
    """A change of the Secret takes effect once, whatever went wrong on the way."""
    run("tenants", "set", "old")
    order(cluster.api)
    run("tenants", "set", "search")
    assert cluster.api.faults.left == 0
    assert set(cluster.api.data(NAMESPACE, SECRETS[0])) == {"tenant.old.json", "tenant.search.json"}


LASTING: list[Any] = [
    pytest.param(lambda api: api.fail(409, 999, "Conflict", verb="patch"), "others change it", id="409"),
    pytest.param(lambda api: api.fail(429, 999, "TooManyRequests", verb="patch"), "429", id="429"),
    pytest.param(lambda api: api.fail(500, 999, verb="patch"), "500", id="500"),
    pytest.param(lambda api: api.drop_connections(999, verb="patch"), "cannot be reached", id="dropped"),
]


@pytest.mark.parametrize(("order", "words"), LASTING)
def test_a_fault_that_lasts(  # noqa: PLR0917 - fixtures
    one_release: Tool,
    cluster: Cluster,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    order: Callable[[Any], None],
    words: str,
) -> None:
    """A change that cannot be made is given up, with the reason, and nothing of it is done."""
    monkeypatch.setattr(secret_vault, "CHANGE_S", 0.5)
    before = cluster.api.data(NAMESPACE, SECRETS[0])
    order(cluster.api)
    told = " ".join(run("tenants", "set", "search", status=3).stderr.split())
    assert words in told
    assert cluster.api.data(NAMESPACE, SECRETS[0]) == before
