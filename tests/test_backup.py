"""docs/backup.md is followed: what is backed up comes back, in a new Redis and in a new cluster."""

import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.settings import KeySecretSettings, RateLimits
from cluster.stores import admin
from cluster.stores.key_index import KeyIndex
from cluster.stores.redis_limits import RedisLimits
from cluster.stores.secret_vault import SecretVault
from tests.helm.chart_docs import CHART
from tests.helm_tools import Tool
from tests.kube.cluster import Cluster, running
from tests.redis_servers import RedisServer, StartRedis, free_port
from tests.stores.limit_store_suite import admitted, ask, refused
from tests.stores.test_redis_outages import store_on, until

pytestmark = pytest.mark.integration

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "backup.md").read_text()
BUDGET = 1000


def documented(command: str) -> str:
    """Return a command after making sure that the document has it."""
    assert command in DOCUMENT, command
    return command


# --- limits in Redis


async def spend(store: RedisLimits, tokens: int) -> None:
    """Use a part of the day's budget, and wait until Redis knows."""
    store.settle(await admitted(store, ask(tokens, tokens_per_day=BUDGET)), tokens=tokens)
    await until(lambda: not store.unsettled)


def backed_up(server: RedisServer, folder: Path) -> bytes:
    """Take the backup, while the server serves."""
    path = folder / "limits.rdb"
    documented("valkey-cli --rdb /data/backup.rdb")
    subprocess.run(
        ["redis-cli", "-p", str(server.port), "--rdb", str(path)], check=True, capture_output=True, timeout=20
    )
    return path.read_bytes()


async def restored(server: RedisServer, backup: bytes) -> None:
    """Make the server a replica of one that has read the backup, until it has all of it."""
    documented("--dir /data --dbfilename restore.rdb --appendonly no")
    helper = RedisServer(server.folder, free_port(), {"dbfilename": "restore.rdb", "appendonly": "no"})
    (server.folder / "restore.rdb").write_bytes(backup)
    helper.start()
    try:
        with server.client() as client:
            documented("valkey-cli replicaof 127.0.0.1 6380")
            client.execute_command("REPLICAOF", "127.0.0.1", str(helper.port))
            documented("until it says master_link_status:up")
            await until(lambda: client.info("replication").get("master_link_status") == "up")
            documented("valkey-cli replicaof no one")
            client.execute_command("REPLICAOF", "NO", "ONE")
    finally:
        helper.end()


async def test_budgets_come_back_in_a_new_redis(start_redis: StartRedis, tmp_path: Path) -> None:
    """What was spent before the backup is spent in the new one, also after its restart."""
    old = start_redis(appendonly="yes")
    async with store_on(old.settings()) as store:
        await spend(store, 600)
        backup = backed_up(old, tmp_path)
        await spend(store, 100)
    new = start_redis(appendonly="yes")
    await restored(new, backup)
    new.end()
    new.start()
    async with store_on(new.settings()) as store:
        assert (await refused(store, ask(401, tokens_per_day=BUDGET))).limit == "budget"
        await spend(store, 400)


async def test_gateways_live_through_a_restore(start_redis: StartRedis, tmp_path: Path) -> None:
    """A gateway that serves meanwhile decides alone, and tells afterwards what it admitted."""
    server = start_redis(appendonly="yes")
    async with store_on(server.settings()) as store:
        await spend(store, 600)
        backup = backed_up(server, tmp_path)
        with server.client() as client:
            client.flushall()
        running_request = await admitted(store, ask(100, tokens_per_day=BUDGET))
        await restored(server, backup)
        store.settle(running_request, tokens=50)
        await until(lambda: not store.degraded and not store.unsettled)
        left = BUDGET - 600
        assert (await refused(store, ask(left + 1, tokens_per_day=BUDGET))).limit == "budget"


async def test_the_obvious_restore_loses_everything(start_redis: StartRedis, tmp_path: Path) -> None:
    """The warning of the document is true: a server with a log does not look at a dump in its folder."""
    old = start_redis(appendonly="yes")
    async with store_on(old.settings()) as store:
        await spend(store, 600)
        backup = backed_up(old, tmp_path)
    new = start_redis(appendonly="yes")
    new.end()
    (new.folder / "dump.rdb").write_bytes(backup)
    new.start()
    with new.client() as client:
        assert client.dbsize() == 0
    documented("it starts empty and does not say so")


# --- Secrets

NAME, NAMESPACE = "gpt-oss-cluster", "serving"
NOW = datetime.now(UTC)


def installed(helm: Tool, cluster: Cluster) -> None:
    """Install the chart."""
    cluster.connected(helm)("install", NAME, str(CHART), "--namespace", NAMESPACE)


def secret(cluster: Cluster, suffix: str) -> dict[str, bytes]:
    """Return a Secret's entries."""
    return cluster.api.data(NAMESPACE, f"{NAME}-{suffix}")


def exported(kubectl: Tool, cluster: Cluster, folder: Path) -> list[Path]:
    """Take the backup of the Secrets."""
    files = []
    for suffix in ("secrets", "keys"):
        documented(f"kubectl -n $NS get secret $REL-{suffix} -o yaml")
        path = folder / f"{suffix}.yaml"
        command = ("-n", NAMESPACE, "get", "secret", f"{NAME}-{suffix}", "-o", "yaml")
        path.write_text(cluster.connected(kubectl)(*command).stdout)
        files.append(path)
    return files


def index(cluster: Cluster) -> KeyIndex:
    """Return what a gateway knows that reads this cluster's Secrets."""
    found = KeyIndex(secret(cluster, "secrets")["pepper"], defaults=RateLimits(), clock=time.time, origin="x")
    found.update(secret(cluster, "keys"))
    return found


def test_keys_come_back_in_a_new_cluster(helm: Tool, kubectl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """Live keys work, revoked ones do not, and the install afterwards changes neither Secret."""
    installed(helm, cluster)
    pepper = secret(cluster, "secrets")["pepper"]
    vault = SecretVault(
        KeySecretSettings(secret=f"{NAME}-keys", namespace=NAMESPACE, kubeconfig=cluster.kubeconfig)
    )
    admin.set_tenant(vault, "ads", now=NOW)
    live = admin.create_key(vault, "ads", pepper=pepper, now=NOW)
    revoked = admin.create_key(vault, "ads", pepper=pepper, now=NOW)
    admin.revoke_key(vault, revoked.record.id, now=NOW)
    files = exported(kubectl, cluster, tmp_path)
    folder = tmp_path / "new"
    folder.mkdir()
    with running(folder) as new:
        documented("kubectl -n $NS create -f secrets.yaml -f keys.yaml")
        command = [word for path in files for word in ("-f", str(path))]
        new.connected(kubectl)("-n", NAMESPACE, "create", *command)
        installed(helm, new)
        assert secret(new, "keys") == secret(cluster, "keys")
        assert secret(new, "secrets") == secret(cluster, "secrets")
        assert index(new).find(live.key) is not None
        assert index(new).find(revoked.key) is None
