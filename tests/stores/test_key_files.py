"""Facts about tenants and keys in a directory: followed by a gateway, changed by administrative acts."""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.settings import RateLimits
from cluster.stores import admin
from cluster.stores.admin import NewSecret
from cluster.stores.key_files import KeyDirectory, KeyFiles
from cluster.stores.key_index import KeyIndex
from cluster.stores.records import KeyStoreError
from tests.stores.limit_store_suite import Clock

PEPPER = b"p" * 32
NOON = datetime.fromtimestamp(Clock().now, UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a key directory with one tenant."""
    admin.set_tenant(KeyDirectory(tmp_path), "ads", now=NOON)
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    """Return the clock that decides what has expired."""
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> KeyIndex:
    """Return an index that has read nothing."""
    return KeyIndex(PEPPER, defaults=RateLimits(), clock=clock, origin="the directory")


@pytest.fixture
def files(directory: Path, keys: KeyIndex) -> KeyFiles:
    """Return what keeps the index equal to the directory."""
    return KeyFiles(directory, keys)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that errors about files are added to."""
    logged: list[str] = []
    for name in ("cluster.stores.key_files", "cluster.stores.key_index"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handle", lambda record: logged.append(record.getMessage()))
    return logged


def create(directory: Path, **more: Any) -> NewSecret:
    """Create a key of the tenant."""
    return admin.create_key(KeyDirectory(directory), "ads", pepper=PEPPER, now=NOON, **more)


def revoke(directory: Path, made: NewSecret) -> None:
    """Revoke a key."""
    admin.revoke_key(KeyDirectory(directory), made.record.id, now=NOON)


def test_an_empty_directory_is_ready(tmp_path: Path, keys: KeyIndex) -> None:
    """A directory without keys has been read all the same."""
    KeyFiles(tmp_path, keys).refresh()
    assert keys.ready


def test_a_change_is_picked_up(directory: Path, files: KeyFiles, keys: KeyIndex) -> None:
    """New keys, revoked keys and removed files take effect at the next refresh, each once."""
    files.refresh()
    made = create(directory)
    assert files.refresh()
    assert keys.find(made.key) is not None
    assert not files.refresh()
    revoke(directory, made)
    assert files.refresh()
    assert keys.find(made.key) is None
    another = create(directory)
    files.refresh()
    (directory / f"key.{another.record.id}.json").unlink()
    assert files.refresh()
    assert keys.find(another.key) is None


def test_an_unchanged_directory_is_not_read_again(
    directory: Path, files: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only changed files are read."""
    create(directory)
    files.refresh()
    read: list[Path] = []
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    files.refresh()
    assert read == []
    made = create(directory)
    read.clear()
    files.refresh()
    assert read == [directory / f"key.{made.record.id}.json"]


def test_a_directory_that_goes_away(
    directory: Path, files: KeyFiles, keys: KeyIndex, errors: list[str]
) -> None:
    """When the directory cannot be listed the keys stay good, it is logged once, and a return is noticed."""
    made = create(directory)
    files.refresh()
    away = directory.rename(directory.with_name("away"))
    for _ in range(3):
        assert not files.refresh()
    assert keys.find(made.key) is not None
    assert len(errors) == 1
    away.rename(directory)
    revoke(directory, made)
    assert files.refresh()
    assert keys.find(made.key) is None


def test_a_missing_directory_is_not_ready(tmp_path: Path, keys: KeyIndex, errors: list[str]) -> None:
    """A store whose directory was never there is not ready, and says which directory it is."""
    files = KeyFiles(tmp_path / "none", keys)
    assert not files.refresh()
    assert not keys.ready
    assert str(tmp_path / "none") in errors[0]


def test_links_are_followed(
    directory: Path, tmp_path_factory: pytest.TempPathFactory, keys: KeyIndex
) -> None:
    """A mounted Secret, whose entries are links into a folder that is swapped, works and is followed."""
    made = create(directory)
    mount = tmp_path_factory.mktemp("mount")
    (mount / "..data").symlink_to(directory)
    for path in directory.glob("*.json"):
        (mount / path.name).symlink_to(f"..data/{path.name}")
    files = KeyFiles(mount, keys)
    files.refresh()
    assert keys.find(made.key) is not None
    revoke(directory, made)
    assert files.refresh()
    assert keys.find(made.key) is None


def test_other_files_are_left_alone(directory: Path, files: KeyFiles, errors: list[str]) -> None:
    """Files of other names, temporary ones too, are no keys."""
    for name in ("README", ".new-x", "key.json.bak", "tenant.ads.json~"):
        (directory / name).write_text("{")
    files.refresh()
    assert errors == []


def test_files_are_private(directory: Path) -> None:
    """Files are readable by their owner alone, and nothing temporary is left."""
    create(directory)
    files = [path for path in directory.iterdir() if path.name != ".lock"]
    assert len(files) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_an_unwritable_directory_says_so(tmp_path: Path) -> None:
    """A directory that cannot be made or written to is an error with the system's reason."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(KeyStoreError, match=r"cannot be written to: (Not a directory|File exists)"):
        admin.set_tenant(KeyDirectory(file), "ads", now=NOON)


def test_a_file_that_cannot_be_read_keeps_its_entry(
    directory: Path, files: KeyFiles, keys: KeyIndex, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there and cannot be read is not a removed one: it is logged once, and tried again."""
    made = create(directory)
    files.refresh()
    path = directory / f"key.{made.record.id}.json"
    revoke(directory, made)
    original = Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", _refusing(path))
        for _ in range(3):
            assert files.refresh() == []
    assert keys.find(made.key) is not None
    assert errors == [f"{path}: cannot be read: Permission denied; the last good version stays in force"]
    assert Path.read_bytes is original
    assert files.refresh() == [path.name]
    assert keys.find(made.key) is None


def test_confirmed_at_each_look(files: KeyFiles, keys: KeyIndex, clock: Clock) -> None:
    """Each look at an unchanged directory confirms what is known; one that fails does not."""
    files.refresh()
    clock.advance(5)
    files.refresh()
    assert keys.age_s() == 0


def test_an_unreadable_record_is_told(directory: Path) -> None:
    """An act on records that cannot be read says which file it is."""
    (directory / "key.00000000.json").mkdir()
    with pytest.raises(KeyStoreError, match=r"key\.00000000\.json: cannot be read: Is a directory"):
        KeyDirectory(directory).read()


def _refusing(forbidden: Path) -> Any:
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == forbidden:
            raise PermissionError(13, os.strerror(13))
        return original(path)

    return read_bytes
