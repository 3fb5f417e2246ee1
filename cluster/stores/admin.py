"""Administrative acts on tenants and keys in a directory; a running gateway picks the changes up.

Each act takes the directory's lock, writes whole files (0600, renamed into place) and returns an audit record
that names who was changed and how, without any secret. A key's secret is returned once, by the act that made
it, and is nowhere afterwards. Errors are `KeyStoreError`, and say what to do.
"""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from cluster.core.keys import RANDOM_BYTES, digest, key_id, mint
from cluster.settings import RateLimits
from cluster.stores.key_files import KeyStoreError, read_record
from cluster.stores.records import (
    KeyId,
    KeyRecord,
    KeySecret,
    Scopes,
    TenantName,
    TenantRecord,
    live_secrets,
    within,
)

_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One administrative act, for an ``audit`` line."""

    at: datetime
    act: str
    """``tenant.set``, ``tenant.remove``, ``key.create``, ``key.rotate`` or ``key.revoke``."""
    tenant: str
    key_id: str | None
    changes: dict[str, Any]
    """What is new, as in the record; never a secret or a digest."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A key just made."""

    key: str
    """The whole key: shown once, stored nowhere."""
    record: KeyRecord
    audit: AuditRecord

    def __repr__(self) -> str:
        return f"NewSecret(key=<hidden>, id={self.record.id!r})"


def set_tenant(
    directory: Path,
    name: str,
    *,
    now: datetime,
    scopes: Scopes | None = None,
    limits: RateLimits | None = None,
) -> AuditRecord:
    """Create a tenant, or replace its scopes and limits; what is None keeps its value or its default."""
    _check(TenantName, name, "tenant name")
    with _locked(directory):
        path = directory / f"tenant.{name}.json"
        old = read_record(path, TenantRecord) if path.exists() else TenantRecord(name=name, created_at=now)
        new = old.model_copy(
            update={"scopes": scopes or old.scopes, "limits": old.limits if limits is None else limits}
        )
        _write(path, new)
    return AuditRecord(
        now, "tenant.set", name, None, new.model_dump(mode="json", include={"scopes", "limits"})
    )


def list_tenants(directory: Path) -> list[TenantRecord]:
    """Return all tenants by name."""
    return [read_record(path, TenantRecord) for path in sorted(directory.glob("tenant.*.json"))]


def remove_tenant(directory: Path, name: str, *, now: datetime) -> AuditRecord:
    """Remove a tenant and its dead keys. Refused while it has a live key."""
    with _locked(directory):
        path = _existing_tenant(directory, name)
        keys = [key for key in list_keys(directory) if key.tenant == name]
        live = [key.id for key in keys if live_secrets(key, now)]
        if live:
            raise KeyStoreError(
                f"tenant {name} has live keys ({', '.join(live)}): revoke them first with "
                "`gpt-oss-cluster keys revoke`"
            )
        for key in keys:
            (directory / f"key.{key.id}.json").unlink()
        path.unlink()
    return AuditRecord(now, "tenant.remove", name, None, {"keys_removed": [key.id for key in keys]})


def create_key(
    directory: Path,
    tenant: str,
    *,
    pepper: bytes,
    now: datetime,
    label: str = "",
    scopes: Scopes | None = None,
    limits: RateLimits | None = None,
    expires_at: datetime | None = None,
) -> NewSecret:
    """Create a key of a tenant. ``scopes`` may not go beyond the tenant's; None: all that the tenant may.

    ``limits`` are the key's own, and hold beside its tenant's.
    """
    if expires_at is not None and expires_at <= now:
        raise KeyStoreError(f"the expiry {expires_at.isoformat()} is past: give a later one")
    with _locked(directory):
        owner = read_record(_existing_tenant(directory, tenant), TenantRecord)
        _check_within(scopes, owner)
        key = mint(secrets.token_bytes(RANDOM_BYTES))
        record = _validated(
            KeyRecord,
            id=key_id(key),
            tenant=tenant,
            secrets=(KeySecret(digest=digest(pepper, key)),),
            created_at=now,
            label=label,
            expires_at=expires_at,
            scopes=scopes or Scopes(see_reasoning=True),
            limits=limits,
        )
        path = directory / f"key.{record.id}.json"
        if path.exists():
            raise KeyStoreError(f"key id {record.id} is taken; try again")
        _write(path, record)
    return NewSecret(
        key, record, _key_audit("key.create", record, now, "label", "scopes", "limits", "expires_at")
    )


def list_keys(directory: Path) -> list[KeyRecord]:
    """Return all keys by id, revoked and expired ones too; they hold digests, no secrets."""
    return [read_record(path, KeyRecord) for path in sorted(directory.glob("key.*.json"))]


def rotate_key(
    directory: Path, identity: str, *, pepper: bytes, now: datetime, keep_old_s: float
) -> NewSecret:
    """Give a key a new secret under its id; the newest old one stays good for ``keep_old_s`` seconds."""
    with _locked(directory):
        path, old = _existing_key(directory, identity)
        live = live_secrets(old, now)
        if not live:
            raise KeyStoreError(f"key {identity} is revoked or has expired: create a new one")
        key = mint(secrets.token_bytes(RANDOM_BYTES), key_id=identity)
        end = now + timedelta(seconds=keep_old_s)
        kept = live[0].model_copy(update={"expires_at": min(live[0].expires_at or end, end)})
        record = old.model_copy(update={"secrets": (KeySecret(digest=digest(pepper, key)), kept)})
        _write(path, record)
    audit = AuditRecord(
        now, "key.rotate", record.tenant, identity, {"old_secret_expires_at": end.isoformat()}
    )
    return NewSecret(key, record, audit)


def revoke_key(directory: Path, identity: str, *, now: datetime) -> AuditRecord:
    """Revoke a key for good. Its record stays, for the audit; revoking it again changes nothing."""
    with _locked(directory):
        path, old = _existing_key(directory, identity)
        record = old.model_copy(update={"revoked_at": old.revoked_at or now})
        _write(path, record)
    return _key_audit("key.revoke", record, now, "revoked_at")


def _key_audit(act: str, record: KeyRecord, now: datetime, *fields: str) -> AuditRecord:
    return AuditRecord(
        now, act, record.tenant, record.id, record.model_dump(mode="json", include=set(fields))
    )


def _check_within(scopes: Scopes | None, owner: TenantRecord) -> None:
    """Check that a key's scopes do not go beyond its tenant's."""
    if scopes is None:
        return
    allowed = within(scopes, owner.scopes)
    wider = [
        name
        for name in Scopes.model_fields
        if getattr(scopes, name) is not None and getattr(scopes, name) != getattr(allowed, name)
    ]
    if wider:
        raise KeyStoreError(
            f"the key's {', '.join(wider)} would go beyond what tenant {owner.name} may: narrow it, or widen "
            "the tenant with `gpt-oss-cluster tenants set`"
        )


def _existing_tenant(directory: Path, name: str) -> Path:
    _check(TenantName, name, "tenant name")
    path = directory / f"tenant.{name}.json"
    if not path.exists():
        raise KeyStoreError(f"there is no tenant {name}: create it with `gpt-oss-cluster tenants set {name}`")
    return path


def _existing_key(directory: Path, identity: str) -> tuple[Path, KeyRecord]:
    _check(KeyId, identity, "key id")
    path = directory / f"key.{identity}.json"
    if not path.exists():
        raise KeyStoreError(f"there is no key {identity}: see `gpt-oss-cluster keys list`")
    return path, read_record(path, KeyRecord)


def _check(kind: Any, value: str, what: str) -> None:
    """Check a name before it becomes part of a path."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise KeyStoreError(f"{what} {value!r}: {error.errors()[0]['msg']}") from None


def _validated(kind: type[KeyRecord], **values: Any) -> KeyRecord:
    try:
        return kind(**values)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise KeyStoreError(f"the key cannot be made: {reasons}") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two acts at once do not undo each other."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise KeyStoreError(f"{directory}: cannot be written to: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, record: BaseModel) -> None:
    """Write a record as a whole: readers see the old file or the new one, also after a crash."""
    text = record.model_dump_json(indent=2, exclude_none=True) + "\n"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be written: {error.strerror}") from error


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
