"""Facts about tenants and keys in memory."""

import hmac
import logging
import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.core.keys import LENGTH, RANDOM_BYTES, mint
from cluster.settings import RateLimits, Scopes
from cluster.stores import admin
from cluster.stores.admin import NewSecret
from cluster.stores.key_index import MIN_PEPPER_BYTES, KeyIndex, load_pepper
from cluster.stores.records import KeyStoreError
from tests.stores.limit_store_suite import Clock
from tests.stores.vaults import MemoryVault

PEPPER = b"p" * MIN_PEPPER_BYTES
DEFAULTS = RateLimits(requests_per_min=1)
NOON = datetime.fromtimestamp(Clock().now, UTC)


@pytest.fixture
def vault() -> MemoryVault:
    """Return a vault with one tenant."""
    made = MemoryVault()
    admin.set_tenant(made, "ads", now=NOON)
    return made


@pytest.fixture
def clock() -> Clock:
    """Return the clock that decides what has expired."""
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> KeyIndex:
    """Return an index that has read nothing."""
    return KeyIndex(PEPPER, defaults=DEFAULTS, clock=clock, origin="the vault")


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that the index's errors are added to."""
    logged: list[str] = []
    logger = logging.getLogger("cluster.stores.key_index")
    monkeypatch.setattr(logger, "handle", lambda record: logged.append(record.getMessage()))
    return logged


def create(vault: MemoryVault, **more: Any) -> NewSecret:
    """Create a key of the tenant."""
    return admin.create_key(vault, "ads", pepper=PEPPER, now=NOON, **more)


def revoke(vault: MemoryVault, made: NewSecret) -> None:
    """Revoke a key."""
    admin.revoke_key(vault, made.record.id, now=NOON)


def test_a_live_key_is_its_caller(vault: MemoryVault, keys: KeyIndex) -> None:
    """A live key finds its tenant, its id, what it may do and its limits."""
    made = create(vault)
    keys.update(vault.read())
    caller = keys.find(made.key)
    assert caller is not None
    assert (caller.tenant, caller.key_id) == ("ads", made.record.id)
    assert (caller.models, caller.endpoints, caller.max_effort) == (None, None, "high")
    assert caller.see_reasoning is False
    assert caller.limits == (DEFAULTS,)


def test_not_ready_before_it_is_read(vault: MemoryVault, keys: KeyIndex, clock: Clock) -> None:
    """Until records have been handed over the index is not ready, infinitely old, and knows nobody."""
    made = create(vault)
    assert not keys.ready
    assert keys.age_s() == math.inf
    assert keys.find(made.key) is None
    keys.update({})
    assert keys.ready
    clock.advance(7)
    assert keys.age_s() == 7


def test_its_age_is_that_of_the_last_confirmation(vault: MemoryVault, keys: KeyIndex, clock: Clock) -> None:
    """A source that finds nothing new confirms what is known; a clock set back gives no negative age."""
    keys.update(vault.read())
    clock.advance(7)
    keys.confirm()
    assert keys.age_s() == 0
    clock.advance(-3)
    assert keys.age_s() == 0


def test_an_update_tells_what_changed(vault: MemoryVault, keys: KeyIndex) -> None:
    """Of all records that are handed over only those that differ are told, and parsed."""
    made = create(vault)
    entry = f"key.{made.record.id}.json"
    assert sorted(keys.update(vault.read())) == [entry, "tenant.ads.json"]
    assert keys.update(vault.read()) == []
    revoke(vault, made)
    assert keys.update(vault.read()) == [entry]
    del vault.entries[entry]
    assert keys.update(vault.read()) == [entry]


def test_changes_take_effect(vault: MemoryVault, keys: KeyIndex) -> None:
    """New keys are good, revoked and removed ones are not, and the others stay as they were."""
    first = create(vault)
    keys.update(vault.read())
    second, third = create(vault), create(vault)
    keys.update(vault.read())
    assert None not in {keys.find(made.key) for made in (first, second, third)}
    revoke(vault, second)
    del vault.entries[f"key.{third.record.id}.json"]
    keys.update(vault.read())
    assert keys.find(first.key) is not None
    assert keys.find(second.key) is None
    assert keys.find(third.key) is None


def test_a_tenants_default_effort(vault: MemoryVault, keys: KeyIndex) -> None:
    """Every key follows its tenant's default effort, from the moment that it changes."""
    made = create(vault)
    for given, told in (("low", "low"), ("high", "high"), ("model", None)):
        admin.set_tenant(vault, "ads", now=NOON, default_effort=given)  # type: ignore[arg-type]
        keys.update(vault.read())
        caller = keys.find(made.key)
        assert caller is not None
        assert caller.default_effort == told


def test_a_tenants_own_limits_and_scopes(vault: MemoryVault, keys: KeyIndex) -> None:
    """A tenant's limits replace the defaults; a key may do what its own and its tenant's scopes allow."""
    limits = RateLimits(requests_per_min=7, concurrent=2)
    wide = Scopes(models=("gpt-oss-20b", "gpt-oss-120b"), max_effort="medium", see_reasoning=True)
    admin.set_tenant(vault, "ads", now=NOON, scopes=wide, limits=limits)
    narrow = Scopes(models=("gpt-oss-20b",), endpoints=("chat",), max_effort="low", see_reasoning=False)
    tight, loose = create(vault, scopes=narrow), create(vault)
    keys.update(vault.read())
    one, other = keys.find(tight.key), keys.find(loose.key)
    assert one is not None
    assert other is not None
    assert one.limits == other.limits == (limits,)
    assert one.models == frozenset({"gpt-oss-20b"})
    assert one.endpoints == frozenset({"chat"})
    assert (one.max_effort, one.see_reasoning) == ("low", False)
    assert other.models == frozenset({"gpt-oss-20b", "gpt-oss-120b"})
    assert other.endpoints is None
    assert (other.max_effort, other.see_reasoning) == ("medium", True)


def test_a_narrowed_tenant_narrows_its_keys(vault: MemoryVault, keys: KeyIndex) -> None:
    """A key that was made under wider scopes is held to its tenant's present ones."""
    admin.set_tenant(vault, "ads", now=NOON, scopes=Scopes(see_reasoning=True))
    made = create(vault, scopes=Scopes(see_reasoning=True))
    admin.set_tenant(
        vault, "ads", now=NOON, scopes=Scopes(max_effort="low", models=("gpt-oss-20b",), see_reasoning=False)
    )
    keys.update(vault.read())
    caller = keys.find(made.key)
    assert caller is not None
    assert (caller.max_effort, caller.see_reasoning) == ("low", False)
    assert caller.models == frozenset({"gpt-oss-20b"})


@pytest.mark.parametrize(
    ("tenants", "keys_own", "held"), [(None, None, None), (64, None, 64), (64, 32, 32), (None, 32, 32)]
)
def test_a_cap_on_reasoning_is_the_tenants_or_the_keys(
    vault: MemoryVault, keys: KeyIndex, tenants: int | None, keys_own: int | None, held: int | None
) -> None:
    """The tightest; a key without one follows its tenant."""
    admin.set_tenant(vault, "ads", now=NOON, scopes=Scopes(max_reasoning_tokens=tenants))
    made = create(vault, scopes=Scopes(max_reasoning_tokens=keys_own))
    keys.update(vault.read())
    caller = keys.find(made.key)
    assert caller is not None
    assert caller.max_reasoning_tokens == held


def test_wrong_tokens_find_nobody(vault: MemoryVault, keys: KeyIndex) -> None:
    """Unknown, malformed and revoked keys, and a right id with another secret, find nobody."""
    good, revoked = create(vault), create(vault)
    revoke(vault, revoked)
    keys.update(vault.read())
    guess = mint(os.urandom(RANDOM_BYTES), key_id=good.record.id)
    unknown = mint(os.urandom(RANDOM_BYTES))
    for token in (guess, unknown, revoked.key, good.key[:-1], good.key + "\n", "", "x" * 10**6, "é" * LENGTH):
        assert keys.find(token) is None
    assert keys.find(good.key) is not None


def test_no_token_finds_the_decoy(keys: KeyIndex) -> None:
    """What stands in for a token of another length, and its all-zero digest, let nobody in."""
    for token in ("-" * LENGTH, "\0" * LENGTH, "0" * LENGTH):
        assert keys.find(token) is None


def test_expiry(vault: MemoryVault, keys: KeyIndex, clock: Clock) -> None:
    """A key dies at the moment of its expiry, without a refresh."""
    made = create(vault, expires_at=NOON + timedelta(seconds=60))
    keys.update(vault.read())
    clock.advance(59.9)
    assert keys.find(made.key) is not None
    clock.advance(0.1)
    assert keys.find(made.key) is None


def test_rotation(vault: MemoryVault, keys: KeyIndex, clock: Clock) -> None:
    """After a rotation both secrets are good, the old one for as long as was said."""
    old = create(vault)
    new = admin.rotate_key(vault, old.record.id, pepper=PEPPER, now=NOON, keep_old_s=3600)
    keys.update(vault.read())
    assert keys.find(old.key) == keys.find(new.key) is not None
    clock.advance(3600)
    assert keys.find(old.key) is None
    assert keys.find(new.key) is not None


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        pytest.param("", "document: Invalid JSON", id="empty"),
        pytest.param("{", "document: Invalid JSON", id="cut"),
        pytest.param("[]", "document: Input should be an object", id="array"),
        pytest.param(
            '{"id": "0", "typo": "s3cr3t"}', "typo: Extra inputs are not permitted", id="unknown-member"
        ),
        pytest.param(
            '{"secrets": [{"digest": "s3cr3t"}]}', "secrets.0.digest: String should match", id="bad-digest"
        ),
        pytest.param('{"version": "s3cr3t"}', "version: Input should be 1", id="other-version"),
    ],
)
def test_a_broken_record_keeps_the_last_good_version(
    vault: MemoryVault, keys: KeyIndex, errors: list[str], text: str, mistake: str
) -> None:
    """A record that breaks is logged once, by name and mistake but no value in it, and changes nothing."""
    made = create(vault)
    keys.update(vault.read())
    entry = f"key.{made.record.id}.json"
    vault.entries[entry] = text.encode()
    for _ in range(2):
        keys.update(vault.read())
        assert keys.find(made.key) is not None
    assert len(errors) == 1
    assert errors[0].startswith(f"the vault: {entry}: ")
    assert mistake in errors[0]
    assert "s3cr3t" not in errors[0]


def test_a_record_that_was_never_good_is_nobody(
    vault: MemoryVault, keys: KeyIndex, errors: list[str]
) -> None:
    """A broken new record lets nobody in and leaves the others alone."""
    made = create(vault)
    vault.entries["key.00000000.json"] = b"{}"
    keys.update(vault.read())
    assert keys.find(made.key) is not None
    assert len(errors) == 1


def test_a_renamed_record_is_refused(vault: MemoryVault, keys: KeyIndex, errors: list[str]) -> None:
    """A record under another name than its own is not served."""
    made = create(vault)
    vault.entries["key.00000000.json"] = vault.entries.pop(f"key.{made.record.id}.json")
    keys.update(vault.read())
    assert keys.find(made.key) is None
    assert "another name than its entry" in errors[0]


def test_a_key_without_its_tenant_is_nobody(vault: MemoryVault, keys: KeyIndex, errors: list[str]) -> None:
    """A key whose tenant is gone is not served, and the log says so."""
    made = create(vault)
    del vault.entries["tenant.ads.json"]
    keys.update(vault.read())
    assert keys.find(made.key) is None
    assert "there is no tenant.ads.json" in errors[0]


def test_no_secret_shows(vault: MemoryVault, keys: KeyIndex) -> None:
    """Neither the store nor a caller shows a secret, a digest or the pepper when printed."""
    made = create(vault)
    keys.update(vault.read())
    shown = repr(keys) + repr(keys.find(made.key)) + repr(made)
    assert made.key not in shown
    assert made.record.secrets[0].digest not in shown
    assert PEPPER.decode() not in shown


def test_the_pepper_is_read(tmp_path: Path) -> None:
    """A pepper is its file's bytes without the line's end."""
    path = tmp_path / "pepper"
    path.write_bytes(PEPPER + b"\n")
    assert load_pepper(path) == PEPPER


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"", "0 bytes, but at least 32", id="empty"),
        pytest.param(b"short  \n\n", "5 bytes, but at least 32", id="short"),
    ],
)
def test_a_bad_pepper_says_how_to_make_one(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A pepper that is missing or too short is an error with the command that makes a good one."""
    path = tmp_path / "pepper"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyStoreError, match=reason) as caught:
        load_pepper(path)
    assert f"head -c 32 /dev/urandom | base64 > {path}" in str(caught.value)


def test_an_unreadable_pepper(tmp_path: Path) -> None:
    """A pepper that cannot be read is an error that names it."""
    with pytest.raises(KeyStoreError, match="cannot be read: Is a directory"):
        load_pepper(tmp_path)


def test_every_wrong_token_costs_the_same(
    vault: MemoryVault, keys: KeyIndex, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with a token, one HMAC of the same length and two comparisons are computed."""
    good, revoked, expired = (
        create(vault),
        create(vault),
        create(vault, expires_at=NOON + timedelta(seconds=1)),
    )
    revoke(vault, revoked)
    keys.update(vault.read())
    clock.advance(2)
    steps: list[object] = []
    compare = hmac.compare_digest

    class Hashing:
        """Counts what is hashed."""

        def copy(self) -> "Hashing":
            return self

        def update(self, data: bytes) -> None:
            steps.append(len(data))

        def digest(self) -> bytes:
            return bytes(32)

    def compared(one: bytes, other: bytes) -> bool:
        steps.append("compare")
        return compare(one, other)

    monkeypatch.setattr("cluster.stores.key_index.hmac.compare_digest", compared)
    monkeypatch.setattr(keys, "_hmac", Hashing())
    guess = mint(os.urandom(RANDOM_BYTES), key_id=good.record.id)
    for token in (mint(os.urandom(RANDOM_BYTES)), guess, revoked.key, expired.key, "x", good.key[:-1] + "!"):
        steps.clear()
        assert keys.find(token) is None
        assert steps == [LENGTH, "compare", "compare"]
