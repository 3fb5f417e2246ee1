"""Facts about tenants and keys read from a directory."""

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.core.keys import RANDOM_BYTES, digest, mint
from cluster.settings import RateLimits
from cluster.stores import admin
from cluster.stores.admin import NewSecret
from cluster.stores.key_files import MIN_PEPPER_BYTES, KeyFiles, KeyStoreError, load_pepper
from cluster.stores.records import Scopes
from tests.stores.limit_store_suite import Clock

PEPPER = b"p" * MIN_PEPPER_BYTES
DEFAULTS = RateLimits(requests_per_min=1)
NOON = datetime.fromtimestamp(Clock().now, UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a key directory with one tenant."""
    admin.set_tenant(tmp_path, "ads", now=NOON)
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    """Return the clock that decides what has expired."""
    return Clock()


@pytest.fixture
def keys(directory: Path, clock: Clock) -> KeyFiles:
    """Return the store on the directory, not yet read."""
    return KeyFiles(directory, PEPPER, defaults=DEFAULTS, clock=clock)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that the store's errors are added to."""
    logged: list[str] = []
    logger = logging.getLogger("cluster.stores.key_files")
    monkeypatch.setattr(logger, "handle", lambda record: logged.append(record.getMessage()))
    return logged


def create(directory: Path, **more: object) -> NewSecret:
    """Create a key of the tenant."""
    return admin.create_key(directory, "ads", pepper=PEPPER, now=NOON, **more)  # type: ignore[arg-type]


def revoke(directory: Path, made: NewSecret) -> None:
    """Revoke a key."""
    admin.revoke_key(directory, made.record.id, now=NOON)


def test_a_live_key_is_its_caller(directory: Path, keys: KeyFiles) -> None:
    """A live key finds its tenant, its id, what it may do and its limits."""
    made = create(directory)
    keys.refresh()
    caller = keys.find(made.key)
    assert caller is not None
    assert (caller.tenant, caller.key_id) == ("ads", made.record.id)
    assert (caller.models, caller.endpoints, caller.max_effort) == (None, None, "high")
    assert caller.see_reasoning is False
    assert caller.limits == (DEFAULTS,)


def test_not_ready_before_it_is_read(directory: Path, keys: KeyFiles) -> None:
    """Until the directory has been read the store is not ready and knows nobody."""
    made = create(directory)
    assert not keys.ready
    assert keys.find(made.key) is None
    keys.refresh()
    assert keys.ready


def test_an_empty_directory_is_ready(tmp_path: Path, clock: Clock) -> None:
    """A directory without keys has been read all the same."""
    keys = KeyFiles(tmp_path, PEPPER, defaults=DEFAULTS, clock=clock)
    assert keys.refresh()
    assert keys.ready


def test_a_tenants_own_limits_and_scopes(directory: Path, keys: KeyFiles) -> None:
    """A tenant's limits replace the defaults; a key may do what its own and its tenant's scopes allow."""
    limits = RateLimits(requests_per_min=7, concurrent=2)
    wide = Scopes(models=("gpt-oss-20b", "gpt-oss-120b"), max_effort="medium", see_reasoning=True)
    admin.set_tenant(directory, "ads", now=NOON, scopes=wide, limits=limits)
    narrow = Scopes(models=("gpt-oss-20b",), endpoints=("chat",), max_effort="low")
    tight, loose = create(directory, scopes=narrow), create(directory)
    keys.refresh()
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


def test_a_narrowed_tenant_narrows_its_keys(directory: Path, keys: KeyFiles) -> None:
    """A key that was made under wider scopes is held to its tenant's present ones."""
    admin.set_tenant(directory, "ads", now=NOON, scopes=Scopes(see_reasoning=True))
    made = create(directory, scopes=Scopes(see_reasoning=True))
    admin.set_tenant(directory, "ads", now=NOON, scopes=Scopes(max_effort="low", models=("gpt-oss-20b",)))
    keys.refresh()
    caller = keys.find(made.key)
    assert caller is not None
    assert (caller.max_effort, caller.see_reasoning) == ("low", False)
    assert caller.models == frozenset({"gpt-oss-20b"})


def test_wrong_tokens_find_nobody(directory: Path, keys: KeyFiles) -> None:
    """Unknown, malformed and revoked keys, and a right id with another secret, find nobody."""
    good, revoked = create(directory), create(directory)
    revoke(directory, revoked)
    keys.refresh()
    guess = mint(os.urandom(RANDOM_BYTES), key_id=good.record.id)
    unknown = mint(os.urandom(RANDOM_BYTES))
    for token in (guess, unknown, revoked.key, good.key[:-1], good.key + "\n", "", "x" * 10**6):
        assert keys.find(token) is None
    assert keys.find(good.key) is not None


def test_no_token_finds_the_decoy(keys: KeyFiles) -> None:
    """The key that stands in for malformed ones, and its all-zero digest, let nobody in."""
    keys.refresh()
    assert keys.find(mint(bytes(RANDOM_BYTES))) is None


def test_every_wrong_token_costs_the_same(
    directory: Path, keys: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with a token, exactly one HMAC and two comparisons are computed."""
    good, revoked = create(directory), create(directory)
    revoke(directory, revoked)
    keys.refresh()
    steps: list[str] = []

    def compare(one: str, other: str) -> bool:
        steps.append("compare")
        return one == other

    def hashed(pepper: bytes, token: str) -> str:
        steps.append("hmac")
        return digest(pepper, token)

    monkeypatch.setattr("cluster.stores.key_files.hmac.compare_digest", compare)
    monkeypatch.setattr("cluster.stores.key_files.digest", hashed)
    for token in (mint(os.urandom(RANDOM_BYTES)), revoked.key, "x", good.key[:-1] + "!", good.key):
        steps.clear()
        keys.find(token)
        assert sorted(steps) == ["compare", "compare", "hmac"]


def test_a_change_is_picked_up(directory: Path, keys: KeyFiles) -> None:
    """New keys, revoked keys and removed files take effect at the next refresh, each once."""
    keys.refresh()
    made = create(directory)
    assert keys.refresh()
    assert keys.find(made.key) is not None
    assert not keys.refresh()
    revoke(directory, made)
    assert keys.refresh()
    assert keys.find(made.key) is None
    another = create(directory)
    keys.refresh()
    (directory / f"key.{another.record.id}.json").unlink()
    assert keys.refresh()
    assert keys.find(another.key) is None


def test_an_unchanged_directory_is_not_read_again(
    directory: Path, keys: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only changed files are read."""
    create(directory)
    keys.refresh()
    read: list[Path] = []
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    keys.refresh()
    assert read == []
    made = create(directory)
    read.clear()
    keys.refresh()
    assert read == [directory / f"key.{made.record.id}.json"]


def test_expiry(directory: Path, keys: KeyFiles, clock: Clock) -> None:
    """A key dies at the moment of its expiry, without a refresh."""
    made = create(directory, expires_at=NOON + timedelta(seconds=60))
    keys.refresh()
    clock.advance(59.9)
    assert keys.find(made.key) is not None
    clock.advance(0.1)
    assert keys.find(made.key) is None


def test_rotation(directory: Path, keys: KeyFiles, clock: Clock) -> None:
    """After a rotation both secrets are good, the old one for as long as was said."""
    old = create(directory)
    new = admin.rotate_key(directory, old.record.id, pepper=PEPPER, now=NOON, keep_old_s=3600)
    keys.refresh()
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
def test_a_broken_file_keeps_the_last_good_version(
    directory: Path, keys: KeyFiles, errors: list[str], text: str, mistake: str
) -> None:
    """A file that breaks is logged once, by name and mistake but no value in it, and changes nothing."""
    made = create(directory)
    keys.refresh()
    path = directory / f"key.{made.record.id}.json"
    path.write_text(text)
    for _ in range(2):
        keys.refresh()
        assert keys.find(made.key) is not None
    assert len(errors) == 1
    assert str(path) in errors[0]
    assert mistake in errors[0]
    assert "s3cr3t" not in errors[0]


def test_a_file_that_was_never_good_is_nobody(directory: Path, keys: KeyFiles, errors: list[str]) -> None:
    """A broken new file lets nobody in and leaves the others alone."""
    made = create(directory)
    (directory / "key.00000000.json").write_text("{}")
    keys.refresh()
    assert keys.find(made.key) is not None
    assert len(errors) == 1


def test_a_renamed_file_is_refused(directory: Path, keys: KeyFiles, errors: list[str]) -> None:
    """A record under another name than its own is not served."""
    made = create(directory)
    (directory / f"key.{made.record.id}.json").rename(directory / "key.00000000.json")
    keys.refresh()
    assert keys.find(made.key) is None
    assert "another name than its file" in errors[0]


def test_a_key_without_its_tenant_is_nobody(directory: Path, keys: KeyFiles, errors: list[str]) -> None:
    """A key whose tenant's file is gone is not served, and the log says so."""
    made = create(directory)
    (directory / "tenant.ads.json").unlink()
    keys.refresh()
    assert keys.find(made.key) is None
    assert "tenant 'ads' has no file" in errors[0]


def test_a_directory_that_goes_away(directory: Path, keys: KeyFiles, errors: list[str]) -> None:
    """When the directory cannot be listed the keys stay good, it is logged once, and a return is noticed."""
    made = create(directory)
    keys.refresh()
    away = directory.rename(directory.with_name("away"))
    for _ in range(3):
        assert not keys.refresh()
    assert keys.find(made.key) is not None
    assert len(errors) == 1
    away.rename(directory)
    revoke(directory, made)
    assert keys.refresh()
    assert keys.find(made.key) is None


def test_a_missing_directory_is_not_ready(tmp_path: Path, clock: Clock, errors: list[str]) -> None:
    """A store whose directory was never there is not ready, and says which directory it is."""
    keys = KeyFiles(tmp_path / "none", PEPPER, defaults=DEFAULTS, clock=clock)
    assert not keys.refresh()
    assert not keys.ready
    assert str(tmp_path / "none") in errors[0]


def test_links_are_followed(directory: Path, tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> None:
    """A mounted Secret, whose entries are links into a folder that is swapped, works and is followed."""
    made = create(directory)
    mount = tmp_path_factory.mktemp("mount")
    (mount / "..data").symlink_to(directory)
    for path in directory.glob("*.json"):
        (mount / path.name).symlink_to(f"..data/{path.name}")
    keys = KeyFiles(mount, PEPPER, defaults=DEFAULTS, clock=clock)
    keys.refresh()
    assert keys.find(made.key) is not None
    revoke(directory, made)
    assert keys.refresh()
    assert keys.find(made.key) is None


def test_other_files_are_left_alone(directory: Path, keys: KeyFiles, errors: list[str]) -> None:
    """Files of other names, temporary ones too, are no keys."""
    for name in ("README", ".new-x", "key.json.bak", "tenant.ads.json~"):
        (directory / name).write_text("{")
    keys.refresh()
    assert errors == []


def test_no_secret_shows(directory: Path, keys: KeyFiles) -> None:
    """Neither the store nor a caller shows a secret, a digest or the pepper when printed."""
    made = create(directory)
    keys.refresh()
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
