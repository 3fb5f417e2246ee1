"""Facts about administrative acts on tenants and keys."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.core.keys import digest, key_id, well_formed
from cluster.settings import DailyTokens, RateLimits
from cluster.stores.admin import (
    create_key,
    list_keys,
    list_tenants,
    remove_tenant,
    revoke_key,
    rotate_key,
    set_tenant,
)
from cluster.stores.key_files import KeyStoreError
from cluster.stores.records import Scopes, live_secrets

PEPPER = b"p" * 32
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a key directory with one tenant."""
    set_tenant(tmp_path, "ads", now=NOW)
    return tmp_path


def test_set_creates_and_changes(tmp_path: Path) -> None:
    """Setting a tenant creates it; setting it again replaces what is given and keeps the rest."""
    directory = tmp_path / "new" / "keys"
    limits = RateLimits(requests_per_min=5, tokens_per_day=DailyTokens(high=1000))
    scopes = Scopes(models=("gpt-oss-20b",), max_effort="medium", see_reasoning=True)
    first = set_tenant(directory, "ads", now=NOW, limits=limits)
    assert (first.act, first.tenant, first.key_id, first.at) == ("tenant.set", "ads", None, NOW)
    set_tenant(directory, "ads", now=LATER, scopes=scopes)
    set_tenant(directory, "search", now=LATER)
    ads, search = list_tenants(directory)
    assert (ads.name, ads.created_at, ads.limits, ads.scopes) == ("ads", NOW, limits, scopes)
    assert (search.name, search.limits, search.scopes) == ("search", None, Scopes())


def test_the_audit_names_what_is_new(directory: Path) -> None:
    """An audit record holds the new scopes and limits as JSON, and no digest."""
    act = set_tenant(directory, "ads", now=NOW, limits=RateLimits(concurrent=3))
    assert act.changes["limits"]["concurrent"] == 3
    made = create_key(directory, "ads", pepper=PEPPER, now=NOW, label="batch")
    assert (made.audit.act, made.audit.key_id) == ("key.create", made.record.id)
    assert made.audit.changes["label"] == "batch"
    for audit in (act, made.audit):
        text = json.dumps(audit.changes)
        assert made.key not in text
        assert made.record.secrets[0].digest not in text


def test_a_new_key_is_stored_hashed(directory: Path) -> None:
    """A new key is well-formed, its file holds its digest and neither the key nor its secret."""
    made = create_key(directory, "ads", pepper=PEPPER, now=NOW)
    assert well_formed(made.key)
    assert key_id(made.key) == made.record.id
    text = (directory / f"key.{made.record.id}.json").read_text()
    assert digest(PEPPER, made.key) in text
    assert made.key[17:] not in text
    assert list_keys(directory) == [made.record]


def test_files_are_private(directory: Path) -> None:
    """Files are readable by their owner alone, and nothing temporary is left."""
    create_key(directory, "ads", pepper=PEPPER, now=NOW)
    files = [path for path in directory.iterdir() if path.name != ".lock"]
    assert len(files) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize(
    ("tenant_scopes", "key_scopes", "wider"),
    [
        pytest.param(Scopes(max_effort="low"), Scopes(max_effort="high"), "max_effort", id="effort"),
        pytest.param(Scopes(), Scopes(see_reasoning=True), "see_reasoning", id="reasoning"),
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
    directory: Path, tenant_scopes: Scopes, key_scopes: Scopes, wider: str
) -> None:
    """A key that would go beyond its tenant is refused with what is too wide, and nothing is made."""
    set_tenant(directory, "ads", now=NOW, scopes=tenant_scopes)
    with pytest.raises(KeyStoreError, match=f"the key's {wider} would go beyond what tenant ads may"):
        create_key(directory, "ads", pepper=PEPPER, now=NOW, scopes=key_scopes)
    assert list_keys(directory) == []


def test_a_key_within_its_tenant(directory: Path) -> None:
    """A key may be as wide as its tenant, or narrower."""
    wide = Scopes(models=("gpt-oss-20b", "gpt-oss-120b"), endpoints=("chat",), see_reasoning=True)
    set_tenant(directory, "ads", now=NOW, scopes=wide)
    narrow = Scopes(models=("gpt-oss-120b",), endpoints=("chat",), max_effort="low")
    for scopes in (wide, narrow):
        assert create_key(directory, "ads", pepper=PEPPER, now=NOW, scopes=scopes).record.scopes == scopes


def test_rotation_keeps_two_secrets(directory: Path) -> None:
    """A rotation keeps the id and the last secret, bounds that one's life, and drops any older one."""
    first = create_key(directory, "ads", pepper=PEPPER, now=NOW)
    second = rotate_key(directory, first.record.id, pepper=PEPPER, now=NOW, keep_old_s=3600)
    third = rotate_key(directory, first.record.id, pepper=PEPPER, now=NOW, keep_old_s=60)
    assert key_id(second.key) == key_id(third.key) == first.record.id
    newest, kept = third.record.secrets
    assert (newest.digest, newest.expires_at) == (digest(PEPPER, third.key), None)
    assert (kept.digest, kept.expires_at) == (digest(PEPPER, second.key), NOW + timedelta(seconds=60))
    assert list_keys(directory) == [third.record]
    assert third.audit.changes == {"old_secret_expires_at": "2026-01-02T12:01:00+00:00"}


def test_rotation_at_once(directory: Path) -> None:
    """A rotation that keeps the old secret for no time leaves one live secret."""
    made = create_key(directory, "ads", pepper=PEPPER, now=NOW)
    rotated = rotate_key(directory, made.record.id, pepper=PEPPER, now=NOW, keep_old_s=0)
    assert [secret.digest for secret in live_secrets(rotated.record, NOW)] == [digest(PEPPER, rotated.key)]


def test_revocation_is_for_good(directory: Path) -> None:
    """A revoked key keeps its record and the moment of its first revocation, and is not rotated again."""
    made = create_key(directory, "ads", pepper=PEPPER, now=NOW)
    act = revoke_key(directory, made.record.id, now=NOW)
    assert act.changes == {"revoked_at": "2026-01-02T12:00:00Z"}
    revoke_key(directory, made.record.id, now=LATER)
    (record,) = list_keys(directory)
    assert record.revoked_at == NOW
    assert live_secrets(record, NOW) == []
    with pytest.raises(KeyStoreError, match="revoked or has expired: create a new one"):
        rotate_key(directory, made.record.id, pepper=PEPPER, now=NOW, keep_old_s=0)


def test_a_tenant_with_live_keys_stays(directory: Path) -> None:
    """A tenant is removed only when none of its keys lives, and its dead keys go with it."""
    dead = create_key(directory, "ads", pepper=PEPPER, now=NOW)
    expiring = create_key(directory, "ads", pepper=PEPPER, now=NOW, expires_at=LATER)
    revoke_key(directory, dead.record.id, now=NOW)
    with pytest.raises(KeyStoreError, match=f"live keys \\({expiring.record.id}\\): revoke them first"):
        remove_tenant(directory, "ads", now=NOW)
    act = remove_tenant(directory, "ads", now=LATER)
    assert sorted(act.changes["keys_removed"]) == sorted([dead.record.id, expiring.record.id])
    assert list_tenants(directory) == []
    assert list_keys(directory) == []


def test_acts_at_once_do_not_undo_each_other(directory: Path) -> None:
    """Of many rotations and a revocation at the same moment, none is lost."""
    made = create_key(directory, "ads", pepper=PEPPER, now=NOW)
    with ThreadPoolExecutor(8) as pool:
        others = list(
            pool.map(lambda _: create_key(directory, "ads", pepper=PEPPER, now=NOW).record.id, range(16))
        )
        pool.submit(revoke_key, directory, made.record.id, now=NOW).result()
    assert {key.id for key in list_keys(directory)} == {made.record.id, *others}


@pytest.mark.parametrize(
    "name", ["", "Ads", "a/b", "../keys", "a" * 64, "-a", "a.b", "a\n"], ids=lambda name: repr(name)[:12]
)
def test_a_tenants_name_is_safe(tmp_path: Path, name: str) -> None:
    """A name that is no plain lower-case word never becomes a path."""
    with pytest.raises(KeyStoreError, match="tenant name"):
        set_tenant(tmp_path, name, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_says_so(directory: Path) -> None:
    """Acts on a tenant or a key that is not there say how to find or make one."""
    with pytest.raises(
        KeyStoreError, match="no tenant none: create it with `gpt-oss-cluster tenants set none`"
    ):
        create_key(directory, "none", pepper=PEPPER, now=NOW)
    with pytest.raises(KeyStoreError, match="no tenant none"):
        remove_tenant(directory, "none", now=NOW)
    with pytest.raises(KeyStoreError, match="no key 00000000: see `gpt-oss-cluster keys list`"):
        revoke_key(directory, "00000000", now=NOW)
    with pytest.raises(KeyStoreError, match="key id"):
        rotate_key(directory, "../../x", pepper=PEPPER, now=NOW, keep_old_s=0)


def test_a_key_is_not_born_dead(directory: Path) -> None:
    """An expiry in the past is refused."""
    with pytest.raises(KeyStoreError, match="is past: give a later one"):
        create_key(directory, "ads", pepper=PEPPER, now=NOW, expires_at=NOW)


def test_a_label_is_bounded(directory: Path) -> None:
    """A label that is too long is refused with the reason."""
    with pytest.raises(KeyStoreError, match="label: String should have at most 128 characters"):
        create_key(directory, "ads", pepper=PEPPER, now=NOW, label="x" * 129)


def test_an_unwritable_directory_says_so(tmp_path: Path) -> None:
    """A directory that cannot be made or written to is an error with the system's reason."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(KeyStoreError, match=r"cannot be written to: (Not a directory|File exists)"):
        set_tenant(file, "ads", now=NOW)
