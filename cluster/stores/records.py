"""Tenants and keys as they are stored: one JSON document each, with no secret inside.

The same documents are files of a directory and entries of a Kubernetes Secret: ``tenant.<name>.json`` and
``key.<id>.json``. A key may narrow what its tenant may do, never widen it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cluster.core.effort import EFFORTS, Effort, tightest
from cluster.core.tier import lower
from cluster.settings import RateLimits, Scopes, TenantName

KeyId = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{8}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Entries = Mapping[str, bytes]
"""Records as they are stored, by entry name: ``tenant.<name>.json`` and ``key.<id>.json``."""
Item = TypeVar("Item")
Section = TypeVar("Section", Scopes, RateLimits)
AS_ITS_TENANT = Scopes(see_reasoning=True, service_tier="priority")
"""Scopes that go as far as any tenant's: within them, whatever the tenant may."""


class KeyStoreError(Exception):
    """Tenants, keys or the pepper cannot be read or changed; the message says what to do."""


class KeyStoreUnreachableError(KeyStoreError):
    """Where tenants and keys are kept cannot be reached now."""


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


class TenantRecord(_Record):
    """One tenant: a team or an application that shares limits."""

    version: Literal[1] = 1
    """Version of the document's form."""
    name: TenantName
    """The tenant's name; the file is named after it."""
    created_at: AwareDatetime
    """When it was first set."""
    scopes: Scopes = Scopes()
    """What its keys may do at most."""
    default_effort: Effort | None = None
    """Effort of its requests that name none, up to the highest that they may use; None: the model's own."""
    limits: RateLimits | None = None
    """Its limits; None: ``limits.defaults`` of the settings document."""


class KeySecret(_Record):
    """One live secret of a key, as its digest."""

    digest: Digest
    """HMAC-SHA-256 of the whole key under the pepper, hex."""
    expires_at: AwareDatetime | None = None
    """When this secret dies, set on the older one by a rotation; None: with the key."""


class KeyRecord(_Record):
    """One API key."""

    version: Literal[1] = 1
    """Version of the document's form."""
    id: KeyId
    """The id inside the key; the file is named after it."""
    tenant: TenantName
    """Whose key it is."""
    secrets: tuple[KeySecret, ...] = Field(min_length=1, max_length=2)
    """Live secrets, newest first: two while clients change over from one to the other."""
    created_at: AwareDatetime
    """When it was created."""
    label: Annotated[str, Field(max_length=128)] = ""
    """What it is for, in its owner's words."""
    expires_at: AwareDatetime | None = None
    """When the key dies; None: never."""
    revoked_at: AwareDatetime | None = None
    """When it was revoked; None: it is not."""
    scopes: Scopes = AS_ITS_TENANT
    """What it may do, within its tenant's scopes of the moment; by default all that its tenant may."""
    limits: RateLimits | None = None
    """Limits of its own, which hold beside its tenant's; None: only its tenant's."""


Record = TypeVar("Record", KeyRecord, TenantRecord)


def is_entry(name: str) -> bool:
    """Whether ``name`` is the name of a record's entry; a directory or a Secret may hold other things too."""
    return name.startswith(("key.", "tenant.")) and name.endswith(".json")


def key_entry(identity: str) -> str:
    """Return the name of a key's entry."""
    return f"key.{identity}.json"


def tenant_entry(name: str) -> str:
    """Return the name of a tenant's entry."""
    return f"tenant.{name}.json"


def dump(record: KeyRecord | TenantRecord) -> bytes:
    """Return a record as it is stored: one line of JSON, because a Secret's room is small."""
    return record.model_dump_json(exclude_none=True).encode() + b"\n"


def parse(entry: str, data: bytes, kind: type[Record]) -> Record:
    """Return the record in an entry. Raises `KeyStoreError`, which names the mistake, never a value in it."""
    try:
        record = kind.model_validate_json(data)
    except ValidationError as error:
        raise KeyStoreError(f"{entry}: {mistakes(error)}") from None
    own = key_entry(record.id) if isinstance(record, KeyRecord) else tenant_entry(record.name)
    if entry != own:
        raise KeyStoreError(f"{entry}: the record inside is of another name than its entry")
    return record


def mistakes(error: ValidationError) -> str:
    """Return what is wrong with a record, each mistake by its place in it, without any value."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}"
        for item in error.errors(include_input=False, include_context=False, include_url=False)
    )


def within(scopes: Scopes, outer: Scopes) -> Scopes:
    """Return ``scopes`` narrowed to what ``outer`` allows too."""
    return Scopes(
        models=_both(scopes.models, outer.models),
        endpoints=_both(scopes.endpoints, outer.endpoints),
        max_effort=min(scopes.max_effort, outer.max_effort, key=EFFORTS.index),
        see_reasoning=scopes.see_reasoning and outer.see_reasoning,
        max_reasoning_tokens=tightest(scopes.max_reasoning_tokens, outer.max_reasoning_tokens),
        service_tier=lower(scopes.service_tier, outer.service_tier),
    )


def merged(old: Section, given: Section | None) -> Section:
    """Return ``old`` with the fields that are set in ``given``."""
    if given is None:
        return old
    new, base = given.model_dump(exclude_unset=True), old.model_dump()
    for name, value in new.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) else value
    return type(old).model_validate(base)


def live_secrets(record: KeyRecord, now: datetime) -> list[KeySecret]:
    """Return the secrets of a key that are good at ``now``; none when it is revoked or has expired."""
    if record.revoked_at is not None or _past(record.expires_at, now):
        return []
    return [secret for secret in record.secrets if not _past(secret.expires_at, now)]


def _past(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment <= now


def _both(left: tuple[Item, ...] | None, right: tuple[Item, ...] | None) -> tuple[Item, ...] | None:
    if left is None or right is None:
        return right if left is None else left
    return tuple(item for item in left if item in right)
