"""A real failover: three Sentinels, a primary that dies, and the replica that takes its place."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest

from cluster.settings import RedisSettings
from cluster.stores import redis_dial
from cluster.stores.redis_dial import RedisUnfit
from tests.certificates import make
from tests.redis_servers import RedisServer, StartRedis, free_port
from tests.stores.limit_store_suite import admitted, ask, refused
from tests.stores.test_redis_dial import documented_rights, tls_options
from tests.stores.test_redis_outages import store_on, until

pytestmark = pytest.mark.integration

USER = {"user": " ".join(["gpt-oss-gateway", "on", ">of-the-gateway", *documented_rights()])}


@dataclass
class Watched:
    """A primary, its replica, and the Sentinels that watch them."""

    primary: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]

    def ready(self) -> bool:
        """Whether the Sentinels know each other and a replica that is in step."""
        with self.sentinels[0].client(password="of-sentinels") as client:
            state = client.sentinel_master("limits")
        with self.replica.client() as client:
            link = client.info("replication")["master_link_status"]
        return (link, state["num-other-sentinels"], state["num-slaves"]) == ("up", 2, 1)


@pytest.fixture
async def watched(start_redis: StartRedis) -> Watched:
    """Start them all: the gateway has a user of its own, the Sentinels a password."""
    options = {"appendonly": "yes", "appendfsync": "always", "repl_diskless_sync_delay": "0", **USER}
    primary = start_redis(**options)
    replica = start_redis(**options, replicaof=f"127.0.0.1 {primary.port}")
    sentinels = [
        start_redis(
            f"monitor limits 127.0.0.1 {primary.port} 2",
            "down-after-milliseconds limits 500",
            "failover-timeout limits 3000",
            requirepass="of-sentinels",
            user="gpt-oss-gateway on >of-the-gateway -@all +sentinel|get-master-addr-by-name",
        )
        for _ in range(3)
    ]
    made = Watched(primary, replica, sentinels)
    await until(made.ready)
    return made


@pytest.fixture
def settings(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisSettings]:
    """Give the settings that lead to the primary; of their Sentinels one is away, and one says nothing."""
    monkeypatch.setattr(redis_dial, "CONNECT_S", 0.5)
    (tmp_path / "password").write_text("of-the-gateway")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = [free_port(), silent.getsockname()[1], *(each.port for each in watched.sentinels)]
        yield RedisSettings(
            url="redis://limits",
            sentinels=tuple(f"127.0.0.1:{port}" for port in ports),
            user="gpt-oss-gateway",
            password_file=tmp_path / "password",
            sentinel_user="gpt-oss-gateway",
            sentinel_password_file=tmp_path / "password",
        )


@asynccontextmanager
async def killed(watched: Watched) -> AsyncIterator[None]:
    """Kill the primary, once its replica has all."""
    wait_for_the_replica(watched.primary)
    watched.primary.end(SIGKILL)
    yield


@asynccontextmanager
async def moved(watched: Watched) -> AsyncIterator[None]:
    """Let the Sentinels move the primary's part to the replica, as one does before maintenance."""
    yield
    wait_for_the_replica(watched.primary)
    with watched.sentinels[0].client(password="of-sentinels") as client:
        client.execute_command("SENTINEL", "FAILOVER", "limits")


def wait_for_the_replica(primary: RedisServer) -> None:
    """Return once the replica has all that was written until now."""
    with primary.client() as client:
        client.set("test:last", 1)  # what is waited for is a client's own last write
        assert client.wait(1, 5000) == 1


@pytest.mark.parametrize("failover", [killed, moved], ids=lambda failover: failover.__name__)
async def test_limits_outlive_a_failover(
    watched: Watched,
    settings: RedisSettings,
    failover: Callable[[Watched], AbstractAsyncContextManager[None]],
) -> None:
    """Meanwhile the gateway goes on alone, and then at the new primary, where all that was spent is known."""
    async with store_on(settings) as store:
        before = await admitted(store, ask(30, tokens_per_day=100, concurrent=3))
        async with failover(watched):
            during = await admitted(store, ask(20, tokens_per_day=100, concurrent=3))
        await until(lambda: serves_a_gateway(watched.replica) and not store.degraded)
        store.settle(before, tokens=10)
        assert (await refused(store, ask(71, tokens_per_day=100, concurrent=3))).limit == "budget"
        for _ in range(2):
            await admitted(store, ask(0, tokens_per_day=100, concurrent=3))
        assert (await refused(store, ask(0, tokens_per_day=100, concurrent=3))).limit == "concurrent"
        store.settle(during, tokens=20)
        assert not store.degraded


def serves_a_gateway(server: RedisServer) -> bool:
    """Whether a server is a primary, and a gateway is connected to it."""
    with server.client() as client:
        users = {each["user"] for each in client.client_list()}
        return client.info("replication")["role"] == "master" and "gpt-oss-gateway" in users


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_sentinels_are_asked_over_tls(start_redis: StartRedis, tmp_path: Path, host: str) -> None:
    """All certificates are held to one authority, and the primary's to the name that Sentinels tell."""
    certificates = make(tmp_path)
    primary = start_redis(port="0", **tls_options(certificates))
    sentinel = start_redis(
        "resolve-hostnames yes",
        "announce-hostnames yes",
        f"monitor limits {host} {primary.options['tls-port']} 1",
        **{**tls_options(certificates), "port": "0", "tls_replication": "yes"},
    )
    settings = RedisSettings(
        url="rediss://limits",
        sentinels=(f"127.0.0.1:{sentinel.options['tls-port']}",),
        ca_file=certificates.ca,
    )
    async with store_on(settings) as store:
        await admitted(store, ask(concurrent=1))
        assert not store.degraded
    untrusting = settings.model_copy(update={"ca_file": None})
    with pytest.raises(RedisUnfit, match="not trusted"):
        await store_on(untrusting).__aenter__()


async def test_a_mistake_at_the_sentinels_is_told(start_redis: StartRedis, tmp_path: Path) -> None:
    """A password that no Sentinel takes stops the start; Sentinels that are away, or know nothing, do not."""
    sentinel = start_redis("resolve-hostnames no", requirepass="of-sentinels")
    (tmp_path / "password").write_text("wrong")
    address = f"127.0.0.1:{sentinel.port}"
    settings = RedisSettings(
        url="redis://limits", sentinels=(address,), sentinel_password_file=tmp_path / "password"
    )
    with pytest.raises(RedisUnfit, match=r"check limits\.redis\.sentinel_user"):
        await store_on(settings).__aenter__()
    (tmp_path / "password").write_text("of-sentinels")
    async with store_on(settings) as store:
        assert store.degraded
    away = settings.model_copy(update={"sentinels": (address, f"127.0.0.1:{free_port()}")})
    (tmp_path / "password").write_text("wrong")
    async with store_on(away) as store:
        assert store.degraded
