"""Facts about administrative acts on tenants and keys, wherever they are kept."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.core.keys import digest, key_id, well_formed
from cluster.settings import DailyTokens, KeySecretSettings, RateLimits, Scopes
from cluster.stores.admin import (
    Vault,
    create_key,
    list_keys,
    list_tenants,
    remove_tenant,
    revoke_key,
    rotate_key,
    set_tenant,
)
from cluster.stores.key_files import KeyDirectory
from cluster.stores.records import KeyStoreError, live_secrets
from cluster.stores.secret_vault import SecretVault
from tests.kube.api import KubernetesApi, in_thread
from tests.stores.vaults import MemoryVault

PEPPER = b"p" * 32
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture(scope="module")
def api() -> Iterator[KubernetesApi]:
    """Return a Kubernetes API."""
    with in_thread(KubernetesApi()) as running:
        yield running


@pytest.fixture(params=["memory", "directory", "secret"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, api: KubernetesApi) -> Vault:
    """Return a vault without records, of each kind."""
    if request.param == "memory":
        return MemoryVault()
    if request.param == "directory":
        return KeyDirectory(tmp_path / "new" / "keys")
    api.put("serving", "keys", {})
    return SecretVault(KeySecretSettings(secret="keys", kubeconfig=api.kubeconfig(tmp_path / "kubeconfig")))


@pytest.fixture
def vault(empty: Vault) -> Vault:
    """Return a vault with one tenant."""
    set_tenant(empty, "ads", now=NOW)
    return empty


def test_set_creates_and_changes(empty: Vault) -> None:
    """Setting a tenant creates it; setting it again replaces what is given and keeps the rest."""
    limits = RateLimits(requests_per_min=5, tokens_per_day=DailyTokens(high=1000))
    scopes = Scopes(models=("gpt-oss-20b",), max_effort="medium", see_reasoning=True)
    first = set_tenant(empty, "ads", now=NOW, limits=limits)
    assert (first.act, first.tenant, first.key_id, first.at) == ("tenant.set", "ads", None, NOW)
    set_tenant(empty, "ads", now=LATER, scopes=scopes)
    set_tenant(empty, "search", now=LATER)
    ads, search = list_tenants(empty)
    assert (ads.name, ads.created_at, ads.limits, ads.scopes) == ("ads", NOW, limits, scopes)
    assert (search.name, search.limits, search.scopes) == ("search", None, Scopes())


def test_only_what_is_given_changes(vault: Vault) -> None:
    """Fields that are not set keep their value, also inside limits; limits of its own can be dropped."""
    set_tenant(vault, "ads", now=NOW, scopes=Scopes(max_effort="low", models=("gpt-oss-20b",)))
    limits = RateLimits(requests_per_min=5, tokens_per_day=DailyTokens(high=1000))
    set_tenant(vault, "ads", now=NOW, limits=limits)
    set_tenant(vault, "ads", now=NOW, scopes=Scopes(see_reasoning=True, models=None))
    set_tenant(vault, "ads", now=NOW, limits=RateLimits(tokens_per_day=DailyTokens(low=7)))
    (ads,) = list_tenants(vault)
    assert ads.scopes == Scopes(max_effort="low", see_reasoning=True)
    assert ads.limits == RateLimits(requests_per_min=5, tokens_per_day=DailyTokens(low=7, high=1000))
    set_tenant(vault, "ads", now=NOW, default_limits=True)
    (ads,) = list_tenants(vault)
    assert ads.limits is None
    assert ads.scopes == Scopes(max_effort="low", see_reasoning=True)


def test_a_default_effort_comes_and_goes(vault: Vault) -> None:
    """It stays until another is given, or the model's own again; the audit tells it."""
    act = set_tenant(vault, "ads", now=NOW, default_effort="low")
    assert act.changes["default_effort"] == "low"
    set_tenant(vault, "ads", now=NOW, limits=RateLimits(concurrent=3))
    assert [tenant.default_effort for tenant in list_tenants(vault)] == ["low"]
    set_tenant(vault, "ads", now=NOW, default_effort="model")
    assert [tenant.default_effort for tenant in list_tenants(vault)] == [None]


def test_the_audit_names_what_is_new(vault: Vault) -> None:
    """An audit record holds the new scopes and limits as JSON, and no digest."""
    act = set_tenant(vault, "ads", now=NOW, limits=RateLimits(concurrent=3))
    assert act.changes["limits"]["concurrent"] == 3
    made = create_key(vault, "ads", pepper=PEPPER, now=NOW, label="batch")
    assert (made.audit.act, made.audit.key_id) == ("key.create", made.record.id)
    assert made.audit.changes["label"] == "batch"
    for audit in (act, made.audit):
        text = json.dumps(audit.changes)
        assert made.key not in text
        assert made.record.secrets[0].digest not in text


def test_a_new_key_is_stored_hashed(vault: Vault) -> None:
    """A new key is well-formed, its entry holds its digest and neither the key nor its secret."""
    made = create_key(vault, "ads", pepper=PEPPER, now=NOW)
    assert well_formed(made.key)
    assert key_id(made.key) == made.record.id
    stored = vault.read()[f"key.{made.record.id}.json"].decode()
    assert digest(PEPPER, made.key) in stored
    assert made.key[17:] not in stored
    assert list_keys(vault) == [made.record]


@pytest.mark.parametrize(
    ("tenant_scopes", "key_scopes", "wider"),
    [
        pytest.param(Scopes(max_effort="low"), Scopes(max_effort="high"), "max_effort", id="effort"),
        pytest.param(Scopes(), Scopes(see_reasoning=True), "see_reasoning", id="reasoning"),
        pytest.param(Scopes(), Scopes(service_tier="priority"), "service_tier", id="tier"),
        pytest.param(
            Scopes(max_reasoning_tokens=64),
            Scopes(max_reasoning_tokens=65),
            "max_reasoning_tokens",
            id="reasoning tokens",
        ),
        pytest.param(
            Scopes(models=("gpt-oss-20b",)),
            Scopes(models=("gpt-oss-20b", "gpt-oss-120b")),
            "models",
            id="models",
        ),
        pytest.param(
            Scopes(endpoints=("chat",)), Scopes(endpoints=("responses",)), "endpoints", id="endpoints"
        ),
    ],
)
def test_a_key_is_never_wider_than_its_tenant(
    vault: Vault, tenant_scopes: Scopes, key_scopes: Scopes, wider: str
) -> None:
    """A key that would go beyond its tenant is refused with what is too wide, and nothing is made."""
    set_tenant(vault, "ads", now=NOW, scopes=tenant_scopes)
    with pytest.raises(
        KeyStoreError, match=rf"would go beyond what tenant ads may: {wider} \(.*; the tenant's: "
    ):
        create_key(vault, "ads", pepper=PEPPER, now=NOW, scopes=key_scopes)
    assert list_keys(vault) == []


def test_a_key_within_its_tenant(vault: Vault) -> None:
    """A key may be as wide as its tenant, or narrower."""
    most: dict[str, Any] = {"see_reasoning": True, "service_tier": "priority"}
    wide = Scopes(models=("gpt-oss-20b", "gpt-oss-120b"), endpoints=("chat",), **most)
    set_tenant(vault, "ads", now=NOW, scopes=wide)
    least: dict[str, Any] = {"max_effort": "low", "see_reasoning": False, "service_tier": "flex"}
    narrow = Scopes(models=("gpt-oss-120b",), endpoints=("chat",), **least)
    for scopes in (wide, narrow):
        assert create_key(vault, "ads", pepper=PEPPER, now=NOW, scopes=scopes).record.scopes == scopes


def test_rotation_keeps_two_secrets(vault: Vault) -> None:
    """A rotation keeps the id and the last secret, bounds that one's life, and drops any older one."""
    first = create_key(vault, "ads", pepper=PEPPER, now=NOW)
    second = rotate_key(vault, first.record.id, pepper=PEPPER, now=NOW, keep_old_s=3600)
    third = rotate_key(vault, first.record.id, pepper=PEPPER, now=NOW, keep_old_s=60)
    assert key_id(second.key) == key_id(third.key) == first.record.id
    newest, kept = third.record.secrets
    assert (newest.digest, newest.expires_at) == (digest(PEPPER, third.key), None)
    assert (kept.digest, kept.expires_at) == (digest(PEPPER, second.key), NOW + timedelta(seconds=60))
    assert list_keys(vault) == [third.record]
    assert third.audit.changes == {"old_secret_expires_at": "2026-01-02T12:01:00+00:00"}


def test_rotation_never_lengthens_a_life(vault: Vault) -> None:
    """The old secret ends with the key, and the audit says when it really ends."""
    made = create_key(vault, "ads", pepper=PEPPER, now=NOW, expires_at=LATER)
    rotated = rotate_key(vault, made.record.id, pepper=PEPPER, now=NOW, keep_old_s=86400)
    assert rotated.audit.changes == {"old_secret_expires_at": LATER.isoformat()}
    assert live_secrets(rotated.record, LATER) == []


def test_a_key_follows_its_tenant_in_what_it_does_not_say(vault: Vault) -> None:
    """A key narrowed in one thing is as wide as its tenant in the others, now and later."""
    set_tenant(vault, "ads", now=NOW, scopes=Scopes(max_effort="medium"))
    made = create_key(vault, "ads", pepper=PEPPER, now=NOW, scopes=Scopes(models=("gpt-oss-20b",)))
    assert made.record.scopes == Scopes(
        models=("gpt-oss-20b",), max_effort="high", see_reasoning=True, service_tier="priority"
    )


def test_rotation_at_once(vault: Vault) -> None:
    """A rotation that keeps the old secret for no time leaves one live secret."""
    made = create_key(vault, "ads", pepper=PEPPER, now=NOW)
    rotated = rotate_key(vault, made.record.id, pepper=PEPPER, now=NOW, keep_old_s=0)
    assert [secret.digest for secret in live_secrets(rotated.record, NOW)] == [digest(PEPPER, rotated.key)]


def test_revocation_is_for_good(vault: Vault) -> None:
    """A revoked key keeps its record and the moment of its first revocation, and is not rotated again."""
    made = create_key(vault, "ads", pepper=PEPPER, now=NOW)
    act = revoke_key(vault, made.record.id, now=NOW)
    assert act.changes == {"revoked_at": "2026-01-02T12:00:00Z"}
    revoke_key(vault, made.record.id, now=LATER)
    (record,) = list_keys(vault)
    assert record.revoked_at == NOW
    assert live_secrets(record, NOW) == []
    with pytest.raises(KeyStoreError, match="revoked or has expired: create a new one"):
        rotate_key(vault, made.record.id, pepper=PEPPER, now=NOW, keep_old_s=0)


def test_a_tenant_with_live_keys_stays(vault: Vault) -> None:
    """A tenant is removed only when none of its keys lives, and its dead keys go with it."""
    dead = create_key(vault, "ads", pepper=PEPPER, now=NOW)
    expiring = create_key(vault, "ads", pepper=PEPPER, now=NOW, expires_at=LATER)
    revoke_key(vault, dead.record.id, now=NOW)
    with pytest.raises(KeyStoreError, match=f"live keys \\({expiring.record.id}\\): revoke them first"):
        remove_tenant(vault, "ads", now=NOW)
    act = remove_tenant(vault, "ads", now=LATER)
    assert sorted(act.changes["keys_removed"]) == sorted([dead.record.id, expiring.record.id])
    assert list_tenants(vault) == []
    assert list_keys(vault) == []


def test_acts_at_once_do_not_undo_each_other(vault: Vault) -> None:
    """Of many rotations and a revocation at the same moment, none is lost."""
    made = create_key(vault, "ads", pepper=PEPPER, now=NOW)
    with ThreadPoolExecutor(8) as pool:
        others = list(
            pool.map(lambda _: create_key(vault, "ads", pepper=PEPPER, now=NOW).record.id, range(16))
        )
        pool.submit(revoke_key, vault, made.record.id, now=NOW).result()
    assert {key.id for key in list_keys(vault)} == {made.record.id, *others}


@pytest.mark.parametrize(
    "name", ["", "Ads", "a/b", "../keys", "a" * 64, "-a", "a.b", "a\n"], ids=lambda name: repr(name)[:12]
)
def test_a_tenants_name_is_safe(empty: Vault, name: str) -> None:
    """A name that is no plain lower-case word never becomes an entry's name."""
    with pytest.raises(KeyStoreError, match="tenant name"):
        set_tenant(empty, name, now=NOW)
    assert empty.read() == {}


def test_what_is_not_there_says_so(vault: Vault) -> None:
    """Acts on a tenant or a key that is not there say how to find or make one."""
    with pytest.raises(
        KeyStoreError, match="no tenant none: create it with `gpt-oss-cluster tenants set none`"
    ):
        create_key(vault, "none", pepper=PEPPER, now=NOW)
    with pytest.raises(KeyStoreError, match="no tenant none"):
        remove_tenant(vault, "none", now=NOW)
    with pytest.raises(KeyStoreError, match="no key 00000000: see `gpt-oss-cluster keys list`"):
        revoke_key(vault, "00000000", now=NOW)
    with pytest.raises(KeyStoreError, match="key id"):
        rotate_key(vault, "../../x", pepper=PEPPER, now=NOW, keep_old_s=0)


def test_a_key_is_not_born_dead(vault: Vault) -> None:
    """An expiry in the past is refused."""
    with pytest.raises(KeyStoreError, match="is past: give a later one"):
        create_key(vault, "ads", pepper=PEPPER, now=NOW, expires_at=NOW)


def test_a_label_is_bounded(vault: Vault) -> None:
    """A label that is too long is refused with the reason."""
    with pytest.raises(KeyStoreError, match="label: String should have at most 128 characters"):
        create_key(vault, "ads", pepper=PEPPER, now=NOW, label="x" * 129)
