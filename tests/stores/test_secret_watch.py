"""Facts about following a Kubernetes Secret: what a gateway knows of its keys, whatever the API does."""

import asyncio
import json
import logging
import math
import os
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.settings import KeySecretSettings, RateLimits
from cluster.stores import admin, key_secret, secret_watch
from cluster.stores.admin import NewSecret
from cluster.stores.key_index import KeyIndex
from cluster.stores.secret_watch import SecretWatch
from tests.certificates import make
from tests.kube.access import Role
from tests.kube.api import KubernetesApi
from tests.stores.limit_store_suite import Clock
from tests.stores.vaults import MemoryVault

PEPPER = b"p" * 32
NOON = datetime.fromtimestamp(Clock().now, UTC)
GATEWAY = Role("gateway", frozenset({"get", "list", "watch"}), frozenset({"keys"}))


class World:
    """A Secret in an API, the index that follows it, and the clock that its age is told by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = KubernetesApi(tokens={"gateway-token": GATEWAY})
        self.clock = Clock()
        self.vault = MemoryVault()
        self.index = KeyIndex(PEPPER, defaults=RateLimits(), clock=self.clock, origin="Secret")
        self.changed: list[str] = []
        self.snapshot = folder / "snapshot.json"
        self._following: asyncio.Task[Any] | None = None

    def follow(self, index: KeyIndex | None = None, token: str = "gateway-token", **more: Any) -> None:
        """Begin to follow, as a gateway that starts."""
        place = KeySecretSettings(
            secret="keys", kubeconfig=self.api.kubeconfig(self.folder / "kubeconfig", token), **more
        )
        source = SecretWatch(place, index or self.index, self.changed.extend)
        self._following = asyncio.create_task(source.follow())

    async def leave(self) -> None:
        """Stop to follow."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
            self._following = None

    def create(self, **more: Any) -> NewSecret:
        """Create a key, and write it into the Secret."""
        made = admin.create_key(self.vault, "ads", pepper=PEPPER, now=NOON, **more)
        self.publish()
        return made

    def revoke(self, made: NewSecret) -> None:
        """Revoke a key in the Secret."""
        admin.revoke_key(self.vault, made.record.id, now=NOON)
        self.publish()

    def publish(self) -> None:
        """Write the vault's records into the Secret."""
        self.api.put("serving", "keys", self.vault.entries)

    def serves(self, made: NewSecret) -> bool:
        """Whether a key is good."""
        return self.index.find(made.key) is not None

    def lists(self) -> int:
        """How often the API was asked for a list."""
        return [verb for verb, _, _ in self.api.requests].count("list")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Return a Secret with one tenant, not yet followed; tries are made quickly."""
    monkeypatch.setattr(secret_watch, "RETRY_S", (0.01, 0.05))
    made = World(tmp_path)
    admin.set_tenant(made.vault, "ads", now=NOON)
    made.publish()
    await made.api.start()
    yield made
    await made.leave()
    await made.api.stop()


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that errors of the watch are added to."""
    logged: list[str] = []
    logger = logging.getLogger("cluster.stores.secret_watch")
    monkeypatch.setattr(logger, "handle", lambda record: logged.append(record.getMessage()))
    return logged


async def until(check: Callable[[], bool]) -> None:
    """Return once ``check`` holds."""
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def watching(world: World) -> None:
    """Return once the Secret is watched."""
    await until(lambda: world.api.watching == 1)


async def test_keys_come_and_go(world: World) -> None:
    """What is there is listed once; what changes arrives by the watch, and is told by name."""
    old = world.create()
    world.follow()
    await watching(world)
    assert world.serves(old)
    assert world.changed == []
    new = world.create()
    await until(lambda: world.serves(new))
    world.revoke(old)
    await until(lambda: not world.serves(old))
    assert world.serves(new)
    assert world.lists() == 1
    assert world.changed == [f"key.{new.record.id}.json", f"key.{old.record.id}.json"]


async def test_its_role_is_small(world: World) -> None:
    """List and watch of one named Secret are enough: each request names it in its field selector."""
    world.follow()
    await watching(world)
    assert {verb for verb, _, _ in world.api.requests} == {"list", "watch"}
    assert {query["fieldSelector"] for _, _, query in world.api.requests} == {"metadata.name=keys"}


async def test_a_watch_starts_at_the_version_of_the_list(world: World, errors: list[str]) -> None:
    """A Secret that nobody has touched for long is older than anything the API remembers, and is watched."""
    for _ in range(5):
        world.api.bump()
    world.api.compact()
    world.follow()
    await watching(world)
    new = world.create()
    await until(lambda: world.serves(new))
    assert world.lists() == 1
    assert errors == []


async def test_the_api_away(world: World, errors: list[str]) -> None:
    """While the API is away the last good keys are served and age; what changed meanwhile comes with it."""
    old = world.create()
    world.follow()
    await watching(world)
    await world.api.stop()
    world.clock.advance(100)
    new = world.create()
    world.revoke(old)
    await until(lambda: len(errors) >= 1)
    assert world.serves(old)
    assert world.index.age_s() == 100
    await world.api.start()
    await until(lambda: world.serves(new) and not world.serves(old))
    assert world.index.age_s() == 0
    assert "the last good ones stay in force" in errors[0]


async def test_a_cut_watch_is_opened_again(world: World) -> None:
    """A watch that is cut loses nothing."""
    made = world.create()
    world.follow()
    for _ in range(5):
        await watching(world)
        world.api.cut_watches()
        world.revoke(made)
        await until(lambda made=made: not world.serves(made))  # type: ignore[misc]
        made = world.create()
        await until(lambda made=made: world.serves(made))  # type: ignore[misc]


async def test_an_expired_watch_lists_again(world: World, errors: list[str]) -> None:
    """410, within a watch and at its beginning, is answered by a new list, and is no error."""
    world.follow()
    await watching(world)
    world.api.compact()
    world.api.expire_watches()
    await until(lambda: world.lists() == 2)
    await watching(world)
    new = world.create()
    await until(lambda: world.serves(new))
    world.api.fail(410, 1, "Expired")
    world.api.cut_watches()
    await until(lambda: world.lists() == 4)
    await watching(world)
    assert not [error for error in errors if "410" in error or "Expired" in error or "too old" in error]


async def test_bookmarks_confirm(world: World) -> None:
    """A bookmark proves that what is known is current, and moves the version on."""
    world.api.bookmark_s = 0.02
    world.follow()
    await watching(world)
    world.clock.advance(60)
    world.api.bump()
    await until(lambda: world.index.age_s() == 0)
    world.api.compact()
    world.api.cut_watches()
    new = world.create()
    await until(lambda: world.serves(new))


async def test_a_watch_that_ends_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that the API ends as asked is opened again where it was, without a list."""
    monkeypatch.setattr(secret_watch, "WATCH_S", 1)
    world.api.end_watches_after(0.02)
    world.follow()
    await until(lambda: len(world.api.requests) > 5)
    new = world.create()
    await until(lambda: world.serves(new))
    assert world.lists() == 1
    assert {query["timeoutSeconds"] for verb, _, query in world.api.requests if verb == "watch"} == {"1"}


async def test_a_silent_watch_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that says nothing for too long, a bookmark neither, is replaced by a list."""
    monkeypatch.setattr(secret_watch, "SILENCE_S", 0.1)
    world.follow()
    await until(lambda: world.lists() >= 2)


async def test_an_api_that_hangs(world: World, errors: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is not answered is given up, told once, and tried again."""
    monkeypatch.setattr(secret_watch, "LIST_S", 0.05)
    world.api.hang(True)
    world.follow()
    await until(lambda: world.lists() >= 3)
    assert not world.index.ready
    assert len(errors) == 1
    world.api.hang(False)
    await until(lambda: world.index.ready)


async def test_a_dead_peer_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket of a watch asks for its peer, so that one that is gone without a word ends in seconds."""
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(socket.socket, "setsockopt", lambda _socket, *given: asked.append(given))
    world.follow()
    await until(lambda: any(given[:2] == (socket.IPPROTO_TCP, socket.TCP_KEEPCNT) for given in asked))
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in asked
    keepalive = {option: value for level, option, value in asked if level == socket.IPPROTO_TCP}
    idle_s, every_s = keepalive[socket.TCP_KEEPIDLE], keepalive[socket.TCP_KEEPINTVL]
    assert idle_s + every_s * keepalive[socket.TCP_KEEPCNT] <= 5


async def test_a_deleted_secret_is_a_mistake(world: World, errors: list[str]) -> None:
    """When the Secret is deleted its keys stay good and age; when it is back it is followed again."""
    made = world.create()
    world.follow()
    await watching(world)
    world.api.remove("serving", "keys")
    await until(lambda: len(errors) >= 2)
    assert world.serves(made)
    assert errors[0].startswith("API keys: Secret serving/keys: it was deleted")
    assert "kubectl create secret generic keys --namespace serving" in errors[1]
    world.revoke(made)
    await until(lambda: not world.serves(made))


async def test_a_role_that_may_not_list(world: World, errors: list[str]) -> None:
    """A refusal is told once with its mend; the right is used as soon as it is given."""
    world.api.tokens["gateway-token"] = Role("gateway", frozenset({"get"}), frozenset({"keys"}))
    world.follow()
    await until(lambda: world.lists() >= 3)
    assert not world.index.ready
    assert len(errors) == 1
    assert 'User "gateway" cannot list resource "secrets"' in errors[0]
    assert "list and watch to serve them" in errors[0]
    world.api.tokens["gateway-token"] = GATEWAY
    await until(lambda: world.index.ready)


async def test_new_credentials_are_read(world: World) -> None:
    """Credentials are read anew after a failure, so that a renewed kubeconfig needs no restart."""
    world.follow(token="expired")
    await until(lambda: world.lists() >= 2)
    world.api.kubeconfig(world.folder / "kubeconfig", "gateway-token")
    await until(lambda: world.index.ready)


async def test_no_credentials(world: World, errors: list[str]) -> None:
    """A kubeconfig that is not there is told, and tried again."""
    place = KeySecretSettings(secret="keys", kubeconfig=world.folder / "none")
    following = asyncio.create_task(SecretWatch(place, world.index).follow())
    await until(lambda: len(errors) == 1)
    assert str(world.folder / "none") in errors[0]
    following.cancel()


async def test_a_pods_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod the service account's token, authority and namespace are the way to the API, over TLS."""
    certificates = make(tmp_path)
    api = KubernetesApi(tokens={"pod-token": GATEWAY}, certificates=certificates)
    api.put("serving", "keys", {})
    await api.start()
    (tmp_path / "token").write_text("pod-token")
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    (tmp_path / "namespace").write_text("serving\n")
    host, _, port = api.url.removeprefix("https://").partition(":")
    monkeypatch.setattr(key_secret, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    index = KeyIndex(PEPPER, defaults=RateLimits(), clock=Clock(), origin="Secret")
    following = asyncio.create_task(SecretWatch(KeySecretSettings(secret="keys"), index).follow())
    await until(lambda: index.ready and api.watching == 1)
    following.cancel()
    await asyncio.wait([following])
    await api.stop()


async def test_a_whole_megabyte_arrives(world: World) -> None:
    """A Secret as large as Kubernetes takes is listed, and arrives as one event."""
    world.follow()
    await watching(world)
    made = world.create()
    size = sum(map(len, world.vault.entries.values()))
    world.vault.entries["padding"] = os.urandom(1024 * 1024 - size)
    world.publish()
    await until(lambda: world.serves(made))
    world.api.cut_watches()
    await until(lambda: world.lists() == 2)
    await watching(world)
    assert world.serves(made)


async def test_data_that_is_no_base64(
    world: World, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that cannot be read keeps the last good keys in force."""
    made = world.create()
    world.follow()
    await watching(world)
    monkeypatch.setattr(secret_watch, "decode", lambda _data: key_secret.decode({"key.a.json": "?"}))
    world.api.bump()
    world.revoke(made)
    await until(lambda: len(errors) == 1)
    assert "not base64" in errors[0]
    assert world.serves(made)


async def test_a_fault_of_our_own_is_survived(
    world: World, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else goes wrong is logged with its place, and the Secret is followed on."""
    with monkeypatch.context() as patch:
        patch.setattr(secret_watch, "decode", lambda _data: 1 / 0)
        world.follow()
        await until(lambda: len(errors) >= 2)
    assert errors[0] == "following the keys failed; the last good ones stay in force"
    await until(lambda: world.index.ready)


async def test_a_start_while_the_api_is_away(world: World, errors: list[str]) -> None:
    """With a snapshot a gateway starts on its last good keys, as old as they are, and then follows."""
    made = world.create()
    world.follow(snapshot_file=world.snapshot)
    await until(world.snapshot.exists)
    assert world.snapshot.stat().st_mode & 0o777 == 0o600
    assert made.key not in world.snapshot.read_text()
    await world.leave()
    await world.api.stop()
    os.utime(world.snapshot, (world.clock.now - 300,) * 2)
    world.index = KeyIndex(PEPPER, defaults=RateLimits(), clock=world.clock, origin="Secret")
    world.follow(snapshot_file=world.snapshot)
    await until(lambda: world.index.ready)
    assert world.serves(made)
    assert world.index.age_s() == pytest.approx(300)
    assert any("until the API answers" in error for error in errors)
    world.revoke(made)
    await world.api.start()
    await until(lambda: not world.serves(made))
    assert world.index.age_s() == 0


@pytest.mark.parametrize(
    "content", ["", "[]", '{"key.00000000.json": ', None], ids=["empty", "list", "cut", "none"]
)
async def test_a_snapshot_that_is_no_good(world: World, errors: list[str], content: str | None) -> None:
    """A snapshot that is broken or not there is no reason to serve, or to fail."""
    if content is not None:
        world.snapshot.write_text(content)
    await world.api.stop()
    world.follow(snapshot_file=world.snapshot)
    await until(lambda: len(errors) >= (1 if content is None else 2))
    assert not world.index.ready
    assert world.index.age_s() == math.inf
    await world.api.start()
    await until(lambda: world.index.ready)


def test_tries_are_spread_and_bounded() -> None:
    """Pauses double from the first to the longest, and are spread over half of themselves."""
    first_s, longest_s = secret_watch.RETRY_S
    pauses = [secret_watch._pause_s(failures, 1.0) for failures in (0, 1, 2, 10, 10**6)]
    assert pauses == [first_s, first_s * 2, first_s * 4, longest_s, longest_s]
    assert secret_watch._pause_s(0, 0.5) == first_s / 2


async def test_revocation_takes_effect_within_five_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two hundred revocations, some across cut watches, 99 of 100 are in force within five seconds."""
    world.follow()
    await watching(world)
    made = [admin.create_key(world.vault, "ads", pepper=PEPPER, now=NOON) for _ in range(200)]
    world.publish()
    await until(lambda: world.serves(made[-1]))
    took_s = []
    for number, one in enumerate(made):
        if number % 20 == 0:
            world.api.cut_watches()
        world.revoke(one)
        began_s = time.perf_counter()
        await until(lambda one=one: not world.serves(one))  # type: ignore[misc]
        took_s.append(time.perf_counter() - began_s)
    assert sorted(took_s)[int(0.99 * len(took_s))] < 5


async def test_nothing_secret_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Neither digests nor keys nor the token show in what is logged, at any level and in any failure."""
    caplog.set_level(logging.DEBUG)
    made = world.create()
    world.follow()
    await watching(world)
    broken = json.dumps({"id": made.record.id, "digest": "s3cr3t"}).encode()
    world.api.put("serving", "keys", {**world.vault.entries, f"key.{made.record.id}.json": broken})
    await until(lambda: any("last good version" in text for text in caplog.messages))
    world.api.fail(500, 1)
    world.api.cut_watches()
    await until(lambda: world.lists() >= 2)
    told = "\n".join(caplog.messages)
    for secret in (
        made.key,
        made.record.secrets[0].digest,
        "s3cr3t",
        "gateway-token",
        b64encode(broken).decode(),
    ):
        assert secret not in told
