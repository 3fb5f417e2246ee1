"""Facts about an issuer's keys: which of them count, and how they are read."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.settings import JwksSettings
from cluster.stores import jwks as module
from cluster.stores.jwks import MAX_BYTES, MAX_STALE_S, Jwks, JwksError, usable
from tests.certificates import make
from tests.stores.issuer import KeyServer, jwk, jwks, private_key
from tests.stores.limit_store_suite import Clock

RS = ("RS256", "ES256")


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that errors about keys are added to."""
    logged: list[str] = []
    for name in ("cluster.stores.jwks", "cluster.stores.snapshot"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handle", lambda record: logged.append(record.getMessage()))
    return logged


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KeyServer]:
    """Return a running server of keys, with a certificate of a private authority."""
    async with KeyServer(make(tmp_path)).running() as running:
        yield running


def made(clock: Clock, **settings: Any) -> Jwks:
    """Return keys that were not read yet."""
    return Jwks(JwksSettings(**settings), ("RS256", "ES256"), issuer="corp", clock=clock)


def of(server: KeyServer, clock: Clock, folder: Path, **settings: Any) -> Jwks:
    """Return the keys of a server, not read yet."""
    return made(clock, url=server.url, ca_file=folder / "ca.pem", **settings)


async def until(check: Callable[[], bool]) -> None:
    """Return once ``check`` holds."""
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def test_each_key_counts_for_what_it_is() -> None:
    """A key verifies the algorithms that fit its kind, or the one that it names."""
    found = usable(jwks(jwk("a"), jwk("b", "EC"), jwk("c", alg="RS256")), ("RS256", "PS256", "ES256"))
    assert set(found) == {("a", "RS256"), ("a", "PS256"), ("b", "ES256"), ("c", "RS256")}
    assert set(usable(jwks(jwk("e", "OKP")), ("EdDSA",))) == {("e", "EdDSA")}


UNFIT = [
    pytest.param(jwk("a", kid=None), id="no-id"),
    pytest.param(jwk("a", kid=7), id="an-id-that-is-a-number"),
    pytest.param(jwk("a", use="enc"), id="for-encryption"),
    pytest.param(jwk("a", key_ops=["encrypt"]), id="for-other-operations"),
    pytest.param(jwk("a", alg="RS512"), id="another-algorithm"),
    pytest.param(jwk("a", alg="HS256"), id="a-shared-secret's-algorithm"),
    pytest.param(jwk("short", "RSA1024"), id="a-short-key"),
    pytest.param({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}, id="a-shared-secret"),
    pytest.param(jwk("a", d="AQAB"), id="a-private-key"),
    pytest.param(jwk("a", n="!"), id="a-broken-key"),
    pytest.param(jwk("a", kty="EC"), id="a-kind-without-its-members"),
    pytest.param(jwk("b", "EC", crv="P-521"), id="another-curve"),
    pytest.param("a string", id="no-object"),
]


@pytest.mark.parametrize("unfit", UNFIT)
def test_unfit_keys_are_left_out(unfit: Any) -> None:
    """A key that must not verify is left out, and the good ones beside it count."""
    assert set(usable(jwks(unfit, jwk("good")), RS)) == {("good", "RS256")}  # type: ignore[arg-type]
    with pytest.raises(JwksError, match="keys can verify RS256 or ES256"):
        usable(jwks(unfit), RS)  # type: ignore[arg-type]


def test_of_two_keys_with_one_id_the_first_counts() -> None:
    """A second key cannot take another's place within a set."""
    found = usable(jwks(jwk("a"), {**jwk("other"), "kid": "a"}), ("RS256",))
    assert found["a", "RS256"].key.public_numbers() == private_key("a").public_key().public_numbers()  # type: ignore[union-attr]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": 7}', b'{"keys": {}}', b"\xff", b"<html>"])
def test_what_is_no_set_is_told(data: bytes) -> None:
    """Whatever else is at that place is an error."""
    with pytest.raises(JwksError):
        usable(data, ("RS256",))


async def test_a_set_over_tls(server: KeyServer, tmp_path: Path) -> None:
    """A set is read from a URL whose certificate a private authority has signed."""
    clock = Clock()
    keys = of(server, clock, tmp_path)
    assert keys.age_s() > MAX_STALE_S
    assert not keys.good
    assert await keys.refresh()
    assert keys.get("k1", "RS256") is not None
    assert keys.get("k1", "ES256") is None
    assert (keys.age_s(), keys.good, keys.version) == (0, True, 1)


async def test_a_set_in_a_file(tmp_path: Path) -> None:
    """A set is read from a file, and again when it is read next."""
    clock, path = Clock(), tmp_path / "jwks.json"
    path.write_bytes(jwks(jwk("k1")))
    keys = made(clock, file=path)
    assert await keys.refresh()
    path.write_bytes(jwks(jwk("k2")))
    assert await keys.refresh()
    assert keys.get("k1", "RS256") is None
    assert keys.get("k2", "RS256") is not None
    assert keys.version == 2


async def test_an_unknown_authority_is_refused(server: KeyServer, tmp_path: Path, errors: list[str]) -> None:
    """A certificate that the given authority has not signed, or no authority at all, reads nothing."""
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other")
    for authority in (other.ca, None):
        keys = made(Clock(), url=server.url, ca_file=authority)
        assert not await keys.refresh()
    assert server.asked == 0
    assert all("certificate verify failed" in error for error in errors)


FAILURES = [
    pytest.param((500, b"", "status 500"), id="a server error"),
    pytest.param((302, b"", "status 302"), id="elsewhere"),
    pytest.param((200, b"{}", "not a JSON Web Key Set"), id="no set"),
    pytest.param((200, b" " * (MAX_BYTES + 1), "larger than"), id="too large"),
    pytest.param((200, jwks(), "none of its 0 keys"), id="an empty set"),
]


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_keeps_the_last_keys(
    server: KeyServer, tmp_path: Path, errors: list[str], failure: tuple[int, bytes, str]
) -> None:
    """Whatever goes wrong is told once, and the last good keys age."""
    clock = Clock()
    keys = of(server, clock, tmp_path)
    await keys.refresh()
    server.status, server.body, words = failure
    clock.advance(MAX_STALE_S)
    for _ in range(2):
        assert not await keys.refresh()
    assert keys.get("k1", "RS256") is not None
    assert keys.good
    clock.advance(1)
    assert not keys.good
    assert len(errors) == 1
    assert words in errors[0]
    server.status, server.body = 200, jwks(jwk("k1"))
    assert await keys.refresh()
    assert (keys.good, keys.version) == (True, 1)


async def test_a_server_that_hangs_is_given_up(
    server: KeyServer, tmp_path: Path, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that takes too long is a failure."""
    monkeypatch.setattr(module, "FETCH_S", 0.1)
    server.hang.clear()
    assert not await of(server, Clock(), tmp_path).refresh()
    assert len(errors) == 1
    server.hang.set()


async def test_unknown_keys_ask_once_in_a_while(
    server: KeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often an unknown key is asked for, the set is read at most once a pause; unasked, it rests."""
    monkeypatch.setattr(module, "PAUSE_S", 0.1)
    keys = of(server, Clock(), tmp_path, refresh_s=1000)
    following = asyncio.create_task(keys.follow())
    await until(lambda: keys.version == 1)
    began_s = time.monotonic()
    server.body = jwks(jwk("k2"))
    while keys.version == 1:
        keys.want()
        await asyncio.sleep(0.001)
    assert server.asked == 2
    assert time.monotonic() - began_s >= 0.09
    await asyncio.sleep(0.25)
    assert server.asked == 2
    following.cancel()


async def test_a_failure_is_tried_again_after_a_pause(
    server: KeyServer, tmp_path: Path, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure nobody has to ask; the usual rest is not kept."""
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    server.status = 500
    keys = of(server, Clock(), tmp_path, refresh_s=1000)
    following = asyncio.create_task(keys.follow())
    await until(lambda: server.asked >= 3)
    server.status = 200
    await until(lambda: keys.version == 1)
    assert len(errors) == 1
    following.cancel()


async def test_a_rest_ends(server: KeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set is read again when it is due, without being asked for."""
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    following = asyncio.create_task(of(server, Clock(), tmp_path, refresh_s=0.02).follow())
    await until(lambda: server.asked >= 3)
    following.cancel()


async def test_a_start_while_the_issuer_is_away(tmp_path: Path, errors: list[str]) -> None:
    """With a snapshot, tokens are good at a start without a network, for as long as the snapshot is fresh."""
    clock, snapshot = Clock(), tmp_path / "snapshot.json"
    async with KeyServer(make(tmp_path)).running() as server:
        assert await of(server, clock, tmp_path, snapshot_file=snapshot).refresh()
    os.utime(snapshot, (clock.now - 3600,) * 2)
    keys = of(server, clock, tmp_path, snapshot_file=snapshot)
    assert not await keys.refresh()
    assert keys.get("k1", "RS256") is not None
    assert keys.good
    assert keys.age_s() == pytest.approx(3600)
    clock.advance(MAX_STALE_S)
    assert not keys.good
    assert any(str(snapshot) in error for error in errors)


@pytest.mark.parametrize("content", [b"", b"{}", None], ids=["empty", "no set", "none"])
async def test_a_snapshot_that_is_no_good(tmp_path: Path, errors: list[str], content: bytes | None) -> None:
    """A snapshot that is broken or not there gives no keys."""
    snapshot = tmp_path / "snapshot.json"
    if content is not None:
        snapshot.write_bytes(content)
    keys = made(Clock(), url="https://127.0.0.1:1/", snapshot_file=snapshot)
    assert not await keys.refresh()
    assert keys.get("k1", "RS256") is None
    assert not keys.good
    assert len(errors) == (1 if content is None else 2)


async def test_a_snapshot_that_cannot_be_written(tmp_path: Path, errors: list[str]) -> None:
    """It is told, and the keys that were read count."""
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(jwk("k1")))
    keys = made(Clock(), file=path, snapshot_file=tmp_path / "none" / "snapshot.json")
    assert await keys.refresh()
    assert "cannot be written: No such file" in errors[0]
