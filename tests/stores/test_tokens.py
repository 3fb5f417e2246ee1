"""Facts about tokens: a good one is its caller, and everything else is nobody, whatever it says of itself."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.settings import ClaimSettings, Grant, JwksSettings, JwtSettings, RateLimits, Scopes
from cluster.stores import admin
from cluster.stores import tokens as module
from cluster.stores.jwks import MAX_STALE_S, Jwks
from cluster.stores.key_index import KeyIndex
from cluster.stores.tokens import LEEWAY_S, MAX_TOKEN_BYTES, Issuer, Tokens
from tests.stores.issuer import AUDIENCE, ISSUER, jwk, jwks, private_key, token
from tests.stores.vaults import MemoryVault
from tests.stores.wrong_tokens import WRONG, encoded

LIMITS = RateLimits(requests_per_min=1)
NOW = datetime.now(UTC)


class Clock:
    """The real time, and what a test adds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        """Return seconds of the epoch."""
        return time.time() + self.ahead_s


class World:
    """An issuer whose keys are in a file, a tenant, and what finds callers."""

    def __init__(self, folder: Path) -> None:
        self.file, self.clock, self.vault = folder / "jwks.json", Clock(), MemoryVault()
        self.index = KeyIndex(b"p" * 32, defaults=LIMITS, clock=self.clock, origin="vault")
        self.set_tenant("ads", Scopes(max_effort="medium", see_reasoning=True))
        self.file.write_bytes(jwks(jwk("k1"), jwk("e1", "EC")))
        self.issuer = self.trust()
        self.tokens = Tokens([self.issuer], self.index, clock=self.clock)

    def trust(self, **changes: Any) -> Issuer:
        """Return an issuer, its keys not read yet."""
        fields: dict[str, Any] = {
            "name": "corp",
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks": JwksSettings(file=self.file),
            "claims": ClaimSettings(tenant="tenant"),
        }
        settings = JwtSettings(**{**fields, **changes})
        return Issuer(settings, Jwks(settings.jwks, settings.algorithms, issuer="corp", clock=self.clock))

    def set_tenant(self, name: str, scopes: Scopes | None = None) -> None:
        """Set a tenant, and let the index know."""
        admin.set_tenant(self.vault, name, now=NOW, scopes=scopes)
        self.index.update(self.vault.read())


@pytest.fixture(scope="module")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return one world for all examples of a property."""
    made = World(tmp_path_factory.mktemp("world"))
    asyncio.run(made.issuer.keys.refresh())
    return made


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """Return a world whose issuer's keys have been read."""
    made = World(tmp_path)
    await made.issuer.keys.refresh()
    return made


def test_a_good_token_is_its_caller(world: World) -> None:
    """A token finds its tenant, with the tenant's scopes and limits, under its subject's name."""
    caller = world.tokens.find(token())
    assert caller is not None
    assert (caller.tenant, caller.key_id) == ("ads", "corp:svc-search")
    assert (caller.models, caller.endpoints, caller.max_effort) == (None, None, "medium")
    assert caller.see_reasoning is True
    assert caller.limits == (LIMITS,)


def test_an_elliptic_signature(world: World) -> None:
    """Both default algorithms are accepted."""
    assert world.tokens.find(token(private_key("e1", "EC"), "ES256", {"kid": "e1"})) is not None


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", None])
def test_types_that_a_token_may_have(world: World, kind: str | None) -> None:
    """A token says that it is one, or an access token, or nothing."""
    assert world.tokens.find(token(headers={"typ": kind})) is not None


def test_a_clock_that_differs_a_little(world: World) -> None:
    """A minute's difference between the clocks is forgiven."""
    now = int(time.time())
    assert world.tokens.find(token(exp=now - LEEWAY_S + 10)) is not None
    assert world.tokens.find(token(nbf=now + LEEWAY_S - 10, iat=now + LEEWAY_S - 10)) is not None


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_anything_else_is_nobody(world: World, make: Callable[[], str]) -> None:
    """Whatever is wrong with a token, it finds nobody, however often, and a good one finds its caller."""
    bad = make()
    assert world.tokens.find(bad) is None
    assert world.tokens.find(bad) is None
    assert world.tokens.find(token()) is not None


@given(st.text(alphabet='abcdefgXYZ0189-_.{}[]":,=', max_size=200), st.integers(0, 2), st.binary(max_size=60))
def test_no_bytes_are_too_strange(one_world: World, text: str, part: int, junk: bytes) -> None:
    """Junk, and a good token with a part of junk, find nobody and raise nothing."""
    parts = token().split(".")
    parts[part] = encoded(junk)
    assert one_world.tokens.find(text) is None
    assert one_world.tokens.find(".".join(parts)) is None


def test_the_longest_token(world: World) -> None:
    """A token of exactly the longest length is good."""
    for pad in range(MAX_TOKEN_BYTES):
        made = token(pad="x" * (5550 + pad))
        if len(made) >= MAX_TOKEN_BYTES - 1:
            break
    assert MAX_TOKEN_BYTES - 1 <= len(made) <= MAX_TOKEN_BYTES
    assert world.tokens.find(made) is not None


def test_a_good_token_is_checked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been verified is remembered, until it expires; a failure is not."""
    checked: list[str] = []
    original = jwt.decode

    def decode(text: str, *given: Any, **named: Any) -> Any:
        checked.append(text)
        return original(text, *given, **named)

    monkeypatch.setattr(jwt, "decode", decode)
    good = token()
    found = {id(world.tokens.find(good)) for _ in range(5)}
    assert len(found) == 1
    assert checked == [good]
    world.clock.ahead_s = 600 + LEEWAY_S + 1
    world.tokens.find(good)
    assert checked == [good, good]


def test_tokens_are_told_apart_by_every_byte(world: World) -> None:
    """Two tokens that share all but their end are two tokens."""
    one = token()
    assert world.tokens.find(one) is not None
    assert world.tokens.find(one[:-4] + "AAAA") is None
    other = world.tokens.find(token(sub="another"))
    assert other is not None
    assert other.key_id == "corp:another"


def test_only_so_many_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: the least recently used token is forgotten first."""
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    made = [token(sub=f"s{number}") for number in range(3)]
    for one in (made[0], made[1], made[0], made[2]):
        assert world.tokens.find(one) is not None
    assert len(world.tokens._remembered) == 2
    checked = len(made)
    with monkeypatch.context() as patch:
        patch.setattr(jwt, "decode", lambda *_given, **_named: pytest.fail("checked again"))
        assert world.tokens.find(made[0]) is not None
        assert world.tokens.find(made[2]) is not None
    assert checked == 3


async def test_rotation(world: World) -> None:
    """A new key counts once the set is read; a key that is gone takes its tokens with it, known or not."""
    old, new = token(), token(private_key("k2"), headers={"kid": "k2"})
    assert world.tokens.find(old) is not None
    assert world.tokens.find(new) is None
    world.file.write_bytes(jwks(jwk("k1"), jwk("k2")))
    await world.issuer.keys.refresh()
    assert world.tokens.find(new) is not None
    assert world.tokens.find(old) is not None
    world.file.write_bytes(jwks(jwk("k2")))
    await world.issuer.keys.refresh()
    assert world.tokens.find(old) is None
    assert world.tokens.find(new) is not None


def test_an_unknown_key_asks_for_a_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a token whose key is not there asks, and one that is otherwise wrong does not."""
    asked: list[int] = []
    monkeypatch.setattr(world.issuer.keys, "want", lambda: asked.append(1))
    for bad in ("alg none", "key id a path", "encrypted", "signature changed", "wrong issuer", "too long"):
        world.tokens.find(WRONG[bad]())
    assert len(asked) <= 2  # "alg none" and the path name keys that are not there
    asked.clear()
    world.tokens.find(WRONG["unknown key id"]())
    assert asked == [1]


async def test_keys_that_are_too_old(world: World) -> None:
    """A set that cannot be read for a day verifies nothing more, remembered or not; a reading mends it."""
    day = token(exp=int(time.time()) + 3 * 86400)
    assert world.tokens.find(day) is not None
    kept = world.file.read_bytes()
    world.file.unlink()
    await world.issuer.keys.refresh()
    world.clock.ahead_s = MAX_STALE_S - 60
    assert world.tokens.find(day) is not None
    world.clock.ahead_s = MAX_STALE_S + 60
    assert world.tokens.find(day) is None
    assert world.tokens.find(token(sub="new", exp=int(time.time()) + 3 * 86400)) is None
    world.file.write_bytes(kept)
    await world.issuer.keys.refresh()
    assert world.tokens.find(day) is not None


def test_a_tenant_that_changes(world: World) -> None:
    """A tenant that is narrowed or removed narrows or ends its remembered tokens at once."""
    good = token()
    assert world.tokens.find(good) is not None
    world.set_tenant("ads", Scopes(max_effort="low", see_reasoning=False))
    caller = world.tokens.find(good)
    assert caller is not None
    assert (caller.max_effort, caller.see_reasoning) == ("low", False)
    admin.remove_tenant(world.vault, "ads", now=NOW)
    world.index.update(world.vault.read())
    assert world.tokens.find(good) is None
    world.set_tenant("ads")
    assert world.tokens.find(good) is not None


async def test_claims_only_narrow(world: World) -> None:
    """A grant narrows within the tenant, and gives nothing that the tenant may not."""
    models = ("gpt-oss-20b", "gpt-oss-120b")
    wide = Scopes(max_effort="high", models=models, see_reasoning=True, max_reasoning_tokens=64)
    grants = (Grant(claim="groups", value="all", tenant="small", scopes=wide),)
    issuer = world.trust(claims=ClaimSettings(grants=grants))
    await issuer.keys.refresh()
    small = Scopes(max_effort="low", models=models[:1], endpoints=("chat",), max_reasoning_tokens=32)
    world.set_tenant("small", small)
    tokens = Tokens([issuer], world.index, clock=world.clock)
    caller = tokens.find(token(groups=["all"]))
    assert caller is not None
    assert (caller.max_effort, caller.models) == ("low", frozenset({"gpt-oss-20b"}))
    assert (caller.endpoints, caller.see_reasoning) == (frozenset({"chat"}), False)
    assert caller.max_reasoning_tokens == 32
    assert tokens.find(token(groups=["none"])) is None


async def test_two_issuers(world: World, tmp_path: Path) -> None:
    """Each issuer speaks for itself: with one's key nobody can speak for the other, also under one key id."""
    other_file = tmp_path / "other.json"
    other_file.write_bytes(jwks({**jwk("o1"), "kid": "k1"}))
    other = world.trust(name="other", issuer="https://other.example", jwks=JwksSettings(file=other_file))
    await other.keys.refresh()
    tokens = Tokens([world.issuer, other], world.index, clock=world.clock)
    theirs = tokens.find(token(private_key("o1"), iss="https://other.example"))
    ours = tokens.find(token())
    assert theirs is not None
    assert ours is not None
    assert (ours.key_id, theirs.key_id) == ("corp:svc-search", "other:svc-search")
    assert tokens.find(token(private_key("o1"))) is None
    assert tokens.find(token(iss="https://other.example")) is None


def test_nothing_of_a_token_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """No part of a token shows in a log, good or bad."""
    caplog.set_level(0)
    for make in WRONG.values():
        world.tokens.find(make())
    world.tokens.find(token())
    assert caplog.records == []
