"""What a gateway does while Redis is killed, frozen, slow, read-only or flushed: neither open, nor closed."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGKILL

import pytest

from cluster.core.limits import Reservation
from cluster.settings import RedisSettings
from cluster.stores import redis_dial, redis_limits
from cluster.stores.redis_limits import RedisLimits
from tests.redis_servers import RedisServer, StartRedis, free_port
from tests.stores.limit_store_suite import NO_LIMITS, admitted, ask, refused

pytestmark = pytest.mark.integration

Open = Callable[..., Awaitable[RedisLimits]]


@pytest.fixture
async def open_store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Return a function that opens one gateway's store, which looks after Redis more often than others."""
    monkeypatch.setattr(redis_limits, "BEAT_S", 0.1)
    monkeypatch.setattr(redis_limits, "RETRY_S", 0.05)
    monkeypatch.setattr(redis_limits, "ALIVE_S", 0.5)
    monkeypatch.setattr(redis_dial, "CONNECT_S", 0.3)
    async with AsyncExitStack() as stack:

        async def begin(settings: RedisSettings) -> RedisLimits:
            return await stack.enter_async_context(store_on(settings))

        yield begin


def store_on(settings: RedisSettings) -> RedisLimits:
    """Return the store of one gateway."""
    return RedisLimits(settings, max_request_s=1800, clock=time.time, on_degraded=lambda _: None)


async def until(check: Callable[[], bool]) -> None:
    """Return once ``check`` holds."""
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Proxy:
    """Stands before a server; holds back every answer for ``delay_s`` seconds."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[RedisSettings]:
        """Listen while inside; give the settings that lead here."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        yield RedisSettings(url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks |= {
            asyncio.create_task(self._pass(reader, forth, slow=False)),
            asyncio.create_task(self._pass(back, writer, slow=True)),
        }

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay_s if slow else 0)
                writer.write(data)
        finally:
            writer.close()


@asynccontextmanager
async def killed(server: RedisServer) -> AsyncIterator[None]:
    """Kill it; what it knew comes back from its log."""
    server.end(SIGKILL)
    yield
    server.start()


@asynccontextmanager
async def frozen(server: RedisServer) -> AsyncIterator[None]:
    """Stop it without ending it."""
    server.freeze()
    yield
    server.thaw()


@asynccontextmanager
async def read_only(server: RedisServer) -> AsyncIterator[None]:
    """Make it the replica of nobody."""
    with server.client() as client:
        client.replicaof("127.0.0.1", free_port())
        yield
        client.replicaof("NO", "ONE")


@asynccontextmanager
async def frozen_for_long(server: RedisServer) -> AsyncIterator[None]:
    """Stop it for longer than a connection is waited for."""
    server.freeze()
    yield
    await asyncio.sleep(1)
    server.thaw()


@asynccontextmanager
async def cut_off(server: RedisServer) -> AsyncIterator[None]:
    """Let it want a replica that it has not, as a primary that is cut off from all others."""
    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        yield
        client.config_set("min-replicas-to-write", 0)


OUTAGES = [killed, frozen, frozen_for_long, read_only, cut_off]


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
async def test_an_outage_leaves_each_gateway_its_share(
    open_store: Open,
    start_redis: StartRedis,
    outage: Callable[[RedisServer], AbstractAsyncContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two gateways halve every limit while Redis is away, and share the whole again when it is back.

    What was admitted meanwhile is charged afterwards, and what ran before and after is settled once.
    """
    server = start_redis(appendonly="yes", appendfsync="always")
    first, second = await open_store(server.settings()), await open_store(server.settings())
    await until(lambda: first.gateways == 2)
    limits = NO_LIMITS._replace(tokens_per_day=1000, concurrent=4)
    before = await admitted(first, ask(100, base=limits))
    async with outage(server):
        during = await admitted(first, ask(200, base=limits))
        assert first.degraded
        assert (await refused(first, ask(1, base=limits))).limit == "concurrent"
        first.settle(before, tokens=50)
        ended = await admitted(first, ask(100, base=limits))
        first.settle(ended, tokens=70)
        first.settle(ended, tokens=0)
        for _ in range(2):
            await admitted(second, ask(10, base=limits))
        assert second.degraded
    await until(lambda: not first.degraded and not second.degraded)
    refusal = await refused(first, ask(1000, base=limits))
    assert refusal.limit == "budget"
    await admitted(second, ask(1000 - 50 - 200 - 70 - 20, base=limits))
    assert (await refused(second, ask(0, base=limits))).limit == "concurrent"
    first.settle(during, tokens=200)
    await until(lambda: not first.unsettled)
    await admitted(second, ask(0, base=limits))
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("Redis is away" in line and "1/2" in line for line in said) == 2
    assert sum("Redis is back" in line for line in said) == 2


async def test_a_share_is_one_of_what_was_left(open_store: Open, start_redis: StartRedis) -> None:
    """What all gateways have used before an outage is not given again in it."""
    server = start_redis()
    first, second = await open_store(server.settings()), await open_store(server.settings())
    await until(lambda: first.gateways == second.gateways == 2)
    for _ in range(60):
        await admitted(first, ask(1, requests_per_min=100))
    await admitted(second, ask(1, requests_per_min=100))  # sees 39 left
    async with killed(server):
        found = [await second.reserve(ask(1, requests_per_min=100)) for _ in range(60)]
        assert second.degraded
    assert 18 <= sum(isinstance(one, Reservation) for one in found) <= 22


async def test_a_slow_redis_is_not_waited_for(open_store: Open, redis_server: RedisServer) -> None:
    """An answer that takes 200 ms is not waited for; late ones are counted all the same, once."""
    proxy = Proxy(redis_server.port)
    async with proxy.listening() as settings:
        store = await open_store(settings)
        held = await admitted(store, ask(10, tokens_per_day=100))
        proxy.delay_s = 0.2
        began = time.monotonic()
        slow = await admitted(store, ask(20, tokens_per_day=100))
        assert 0.05 <= time.monotonic() - began < 0.19
        assert store.degraded
        began = time.monotonic()
        await admitted(store, ask(30, tokens_per_day=100))
        assert time.monotonic() - began < 0.05
        proxy.delay_s = 0.0
        await until(lambda: not store.degraded)
        assert (await refused(store, ask(41, tokens_per_day=100))).limit == "budget"
        store.settle(held, tokens=10)
        store.settle(slow, tokens=0)
        await admitted(store, ask(60, tokens_per_day=100))
        await refused(store, ask(1, tokens_per_day=100))


async def test_a_late_admission_is_given_back(open_store: Open, redis_server: RedisServer) -> None:
    """What Redis admits late, when the gateway has refused it already, keeps neither slot nor tokens."""
    proxy = Proxy(redis_server.port)
    async with proxy.listening() as settings:
        store, other = await open_store(settings), await open_store(redis_server.settings())
        await until(lambda: store.gateways == 2)
        limits = NO_LIMITS._replace(tokens_per_day=100, concurrent=3)
        await admitted(store, ask(10, base=limits))
        proxy.delay_s = 0.2
        assert (await refused(store, ask(50, base=limits))).limit == "concurrent"
        proxy.delay_s = 0.0
        await until(lambda: not store.degraded)
        await admitted(other, ask(90, base=limits))
        await admitted(other, ask(0, base=limits))


async def test_flushed_data_is_told_again(
    open_store: Open, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that loses its data learns within a few seconds what runs; the gateway says so."""
    store = await open_store(redis_server.settings())
    held = await admitted(store, ask(60, concurrent=1, tokens_per_day=100))
    await asyncio.sleep(0)
    with redis_server.client() as client:
        client.flushall()
        client.script_flush()
        await until(lambda: any("lost its data" in record.message for record in caplog.records))
        await until(lambda: client.exists("gptoss:{ads}:leases") == 1)
    refusal = await refused(store, ask(0, concurrent=1, tokens_per_day=100))
    assert refusal.limit == "concurrent"
    store.settle(held, tokens=60)
    assert (await refused(store, ask(41, concurrent=1, tokens_per_day=100))).limit == "budget"
    assert not store.degraded


async def test_a_forgotten_script_is_sent_along(open_store: Open, redis_server: RedisServer) -> None:
    """A server that has forgotten the script gets it with the command, and the request does not notice."""
    store = await open_store(redis_server.settings())
    with redis_server.client() as client:
        client.script_flush()
        held = await admitted(store, ask(10, tokens_per_min=10))
        client.script_flush()
        store.settle(held, tokens=0)
        await admitted(store, ask(10, tokens_per_min=10))
    assert not store.degraded


async def test_a_gateway_starts_without_redis(open_store: Open, start_redis: StartRedis) -> None:
    """A Redis that is away does not stop a start; how many share the limits is assumed until it is known."""
    server = start_redis()
    server.end(SIGKILL)
    store = await open_store(server.settings(assumed_gateways=4))
    assert store.degraded
    for _ in range(2):
        await admitted(store, ask(requests_per_min=8))
    assert (await refused(store, ask(requests_per_min=8))).requests is not None
    server.start()
    await until(lambda: not store.degraded)
    assert store.gateways == 1
    for _ in range(6):
        await admitted(store, ask(requests_per_min=8))
    await refused(store, ask(requests_per_min=8))


async def test_a_password_changes_without_a_restart(
    open_store: Open, start_redis: StartRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new password is read from its file; while the file has the old one, the gateway says so, once."""
    server = start_redis(requirepass="old")
    (tmp_path / "password").write_text("old")
    store = await open_store(server.settings(password_file=tmp_path / "password"))
    with server.client(password="old") as client:
        client.config_set("requirepass", "new")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(lambda: "check limits.redis.user and limits.redis.password_file" in caplog.text)
    await asyncio.sleep(3 * redis_limits.RETRY_S)
    (tmp_path / "password").write_text("new")
    await until(lambda: not store.degraded)
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1
    await admitted(store, ask(concurrent=1))
    assert not store.degraded


async def test_gateways_are_counted(open_store: Open, redis_server: RedisServer) -> None:
    """A gateway that comes, leaves or dies changes the count of the others."""
    settings = redis_server.settings()
    first = await open_store(settings)
    assert first.gateways == 1
    async with store_on(settings) as second:
        assert second.gateways == 2
        await until(lambda: first.gateways == 2)
    await until(lambda: first.gateways == 1)
    with redis_server.client() as client:
        seconds, micros = client.time()
        client.zadd("gptoss:gateways", {"died": seconds * 1_000_000 + micros})
    await until(lambda: first.gateways == 2)
    await until(lambda: first.gateways == 1)


def test_a_count_is_right_within_ten_seconds() -> None:
    """A gateway that died is out of every other's count within ten seconds."""
    assert redis_limits.ALIVE_S + redis_limits.BEAT_S < 10
    assert redis_limits.ALIVE_S > 3 * redis_limits.BEAT_S  # a lost beat or two kill nobody


async def test_a_server_that_repeats_the_password_is_not_quoted(
    open_store: Open, start_redis: StartRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server without AUTH answers with what it was given; the log says that it knows no such command."""
    password = tmp_path / "password"
    password.write_text("secret-word")
    server = start_redis(rename_command="AUTH none")
    await open_store(server.settings(password_file=password))
    assert "ERR unknown command 'AUTH'" in caplog.text
    assert "secret-word" not in caplog.text


@pytest.mark.parametrize(
    ("skew_s", "words"), [(3600, "3600 s ahead of"), (-90, "90 s behind"), (0.5, None)], ids=str
)
async def test_a_wrong_clock_is_told(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, skew_s: float, words: str | None
) -> None:
    """Redis' time is what all gateways see; limits follow it, but deadlines are the gateway's own."""
    clock = [skew_s]
    store = RedisLimits(
        redis_server.settings(timeout_ms=2000),
        max_request_s=1800,
        clock=lambda: time.time() + clock[0],
        on_degraded=lambda _: None,
    )
    async with store:
        told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("clock")]
        assert len(told) == (0 if words is None else 1)
        assert all(str(words) in line for line in told)
        clock[0] = 0.0
        caplog.set_level(logging.INFO)
        await store._look()
        assert any("clock: over" in line for line in caplog.messages) == bool(words)
