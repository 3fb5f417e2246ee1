"""Administrative acts on tenants and keys; a running gateway picks the changes up.

Each act is decided on the records as they are and applied as one step by a `Vault`: a directory or a
Kubernetes Secret. It returns an audit record that names who was changed and how, without any secret. A key's
secret is returned once, by the act that made it, and is nowhere afterwards. Errors are `KeyStoreError`, and
say what to do.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from cluster.core.effort import Effort
from cluster.core.keys import RANDOM_BYTES, digest, key_id, mint
from cluster.settings import RateLimits, Scopes, TenantName
from cluster.stores.records import (
    AS_ITS_TENANT,
    Entries,
    KeyId,
    KeyRecord,
    KeySecret,
    KeyStoreError,
    TenantRecord,
    dump,
    key_entry,
    live_secrets,
    merged,
    mistakes,
    parse,
    tenant_entry,
    within,
)


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


@dataclass(frozen=True, slots=True)
class Change:
    """What an act changes, and what it tells."""

    entries: Mapping[str, bytes | None]
    """Entries to write, in this order; None removes one."""
    audit: AuditRecord
    made: NewSecret | None = None


class Vault(Protocol):
    """Where records are kept."""

    def read(self) -> Entries:
        """Return all records. Raises `KeyStoreError`."""

    def change(self, act: Callable[[Entries], Change]) -> Change:
        """Apply ``act`` to the records as they are, with no other act between. Raises `KeyStoreError`.

        ``act`` may be called again, with newer records, when another change came first.
        """


def set_tenant(
    vault: Vault,
    name: str,
    *,
    now: datetime,
    scopes: Scopes | None = None,
    default_effort: Effort | Literal["model"] | None = None,
    limits: RateLimits | None = None,
    default_limits: bool = False,
) -> AuditRecord:
    """Create a tenant, or change its scopes, its default effort and its limits.

    Of ``scopes`` and ``limits`` the fields that are set count; the others keep their value, or their default.
    ``default_effort`` changes it where it is given, with ``model`` back to the model's own.
    ``default_limits`` drops the tenant's own limits first. A tenant that is narrowed narrows its keys.
    """
    _check(TenantName, name, "tenant name")

    def act(entries: Entries) -> Change:
        entry = tenant_entry(name)
        old = (
            parse(entry, entries[entry], TenantRecord)
            if entry in entries
            else TenantRecord(name=name, created_at=now)
        )
        own = None if default_limits else old.limits
        new = old.model_copy(
            update={
                "scopes": merged(old.scopes, scopes),
                "default_effort": old.default_effort if default_effort is None else _own(default_effort),
                "limits": own if limits is None else merged(own or RateLimits(), limits),
            }
        )
        told = new.model_dump(mode="json", include={"scopes", "default_effort", "limits"})
        return Change({entry: dump(new)}, AuditRecord(now, "tenant.set", name, None, told))

    return vault.change(act).audit


def list_tenants(vault: Vault) -> list[TenantRecord]:
    """Return all tenants by name."""
    return _tenants(vault.read())


def remove_tenant(vault: Vault, name: str, *, now: datetime) -> AuditRecord:
    """Remove a tenant and its dead keys. Refused while it has a live key."""
    _check(TenantName, name, "tenant name")

    def act(entries: Entries) -> Change:
        _tenant(entries, name)
        keys = [key for key in _keys(entries) if key.tenant == name]
        live = [key.id for key in keys if live_secrets(key, now)]
        if live:
            raise KeyStoreError(
                f"tenant {name} has live keys ({', '.join(live)}): revoke them first with "
                "`gpt-oss-cluster keys revoke`"
            )
        told = {"keys_removed": [key.id for key in keys]}
        return Change(
            {**{key_entry(key.id): None for key in keys}, tenant_entry(name): None},
            AuditRecord(now, "tenant.remove", name, None, told),
        )

    return vault.change(act).audit


def create_key(
    vault: Vault,
    tenant: str,
    *,
    pepper: bytes,
    now: datetime,
    label: str = "",
    scopes: Scopes | None = None,
    limits: RateLimits | None = None,
    expires_at: datetime | None = None,
) -> NewSecret:
    """Create a key of a tenant.

    Of ``scopes`` the fields that are set count, and may not go beyond the tenant's; in the others the key
    follows its tenant. ``limits`` are the key's own, and hold beside its tenant's.
    """
    _check(TenantName, tenant, "tenant name")
    if expires_at is not None and expires_at <= now:
        raise KeyStoreError(f"the expiry {expires_at.isoformat()} is past: give a later one")

    def act(entries: Entries) -> Change:
        owner = _tenant(entries, tenant)
        key = mint(secrets.token_bytes(RANDOM_BYTES))
        record = _new_key(
            id=key_id(key),
            tenant=tenant,
            secrets=(KeySecret(digest=digest(pepper, key)),),
            created_at=now,
            label=label,
            expires_at=expires_at,
            scopes=_key_scopes(owner, scopes),
            limits=limits,
        )
        entry = key_entry(record.id)
        if entry in entries:
            raise KeyStoreError(f"key id {record.id} is taken; try again")
        audit = _key_audit("key.create", record, now, "label", "scopes", "limits", "expires_at")
        return Change({entry: dump(record)}, audit, NewSecret(key, record, audit))

    return _made(vault.change(act))


def list_keys(vault: Vault) -> list[KeyRecord]:
    """Return all keys by id, revoked and expired ones too; they hold digests, no secrets."""
    return _keys(vault.read())


def rotate_key(vault: Vault, identity: str, *, pepper: bytes, now: datetime, keep_old_s: float) -> NewSecret:
    """Give a key a new secret under its id; the newest old one stays good for ``keep_old_s`` seconds."""
    _check(KeyId, identity, "key id")

    def act(entries: Entries) -> Change:
        old = _key(entries, identity)
        live = live_secrets(old, now)
        if not live:
            raise KeyStoreError(f"key {identity} is revoked or has expired: create a new one")
        key = mint(secrets.token_bytes(RANDOM_BYTES), key_id=identity)
        end = now + timedelta(seconds=keep_old_s)
        until = min(end, live[0].expires_at or end, old.expires_at or end)
        kept = live[0].model_copy(update={"expires_at": until})
        record = old.model_copy(update={"secrets": (KeySecret(digest=digest(pepper, key)), kept)})
        told = {"old_secret_expires_at": until.isoformat()}
        audit = AuditRecord(now, "key.rotate", record.tenant, identity, told)
        return Change({key_entry(identity): dump(record)}, audit, NewSecret(key, record, audit))

    return _made(vault.change(act))


def revoke_key(vault: Vault, identity: str, *, now: datetime, forget: bool = False) -> AuditRecord:
    """Revoke a key for good; revoking it again changes nothing.

    Its record stays, for lists; ``forget`` removes it, which frees its room.
    """
    _check(KeyId, identity, "key id")

    def act(entries: Entries) -> Change:
        old = _key(entries, identity)
        record = old.model_copy(update={"revoked_at": old.revoked_at or now})
        audit = _key_audit("key.revoke", record, now, "revoked_at")
        return Change({key_entry(identity): None if forget else dump(record)}, audit)

    return vault.change(act).audit


def _made(change: Change) -> NewSecret:
    if change.made is None:
        raise TypeError("the act made no secret")
    return change.made


def _key_audit(act: str, record: KeyRecord, now: datetime, *fields: str) -> AuditRecord:
    return AuditRecord(
        now, act, record.tenant, record.id, record.model_dump(mode="json", include=set(fields))
    )


def _key_scopes(owner: TenantRecord, given: Scopes | None) -> Scopes:
    """Return a new key's scopes. Raises `KeyStoreError` where they would go beyond its tenant's."""
    asked = merged(AS_ITS_TENANT, given)
    allowed, theirs = within(asked, owner.scopes), owner.scopes
    wider = [
        f"{name} ({_words(getattr(asked, name))}; the tenant's: {_words(getattr(theirs, name))})"
        for name in sorted(given.model_fields_set if given else ())
        if getattr(asked, name) is not None and getattr(asked, name) != getattr(allowed, name)
    ]
    if wider:
        raise KeyStoreError(
            f"the key would go beyond what tenant {owner.name} may: {', '.join(wider)}. Narrow the key, or "
            "widen the tenant with `gpt-oss-cluster tenants set`"
        )
    return asked


def _own(effort: Effort | Literal["model"]) -> Effort | None:
    return None if effort == "model" else effort


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return str({None: "all", True: "yes", False: "no"}.get(value, value))


def _tenants(entries: Entries) -> list[TenantRecord]:
    names = sorted(name for name in entries if name.startswith("tenant."))
    return [parse(name, entries[name], TenantRecord) for name in names]


def _keys(entries: Entries) -> list[KeyRecord]:
    names = sorted(name for name in entries if name.startswith("key."))
    return [parse(name, entries[name], KeyRecord) for name in names]


def _tenant(entries: Entries, name: str) -> TenantRecord:
    entry = tenant_entry(name)
    if entry not in entries:
        raise KeyStoreError(f"there is no tenant {name}: create it with `gpt-oss-cluster tenants set {name}`")
    return parse(entry, entries[entry], TenantRecord)


def _key(entries: Entries, identity: str) -> KeyRecord:
    entry = key_entry(identity)
    if entry not in entries:
        raise KeyStoreError(f"there is no key {identity}: see `gpt-oss-cluster keys list`")
    return parse(entry, entries[entry], KeyRecord)


def _check(kind: Any, value: str, what: str) -> None:
    """Check a name before it becomes part of an entry's name."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise KeyStoreError(f"{what} {value!r}: {error.errors()[0]['msg']}") from None


def _new_key(**values: Any) -> KeyRecord:
    try:
        return KeyRecord(**values)
    except ValidationError as error:
        raise KeyStoreError(f"the key cannot be made: {mistakes(error)}") from None
