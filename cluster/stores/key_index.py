"""Tenants and keys in memory: who is the caller of this token.

A source (a directory, a Kubernetes Secret) hands over all records as they are now; only what has changed is
parsed. A record that is broken keeps the last good version of its entry and is logged, so that a slip of an
editor takes nobody's access away; a key whose tenant is unknown is not served.
"""

import hmac
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cluster.core.keys import ID, LENGTH
from cluster.settings import RateLimits, Scopes
from cluster.stores.caller import Caller
from cluster.stores.records import (
    Entries,
    KeyRecord,
    KeyStoreError,
    TenantRecord,
    key_entry,
    parse,
    tenant_entry,
    within,
)

logger = logging.getLogger(__name__)

MIN_PEPPER_BYTES = 32
"""Shortest pepper: as long as the hash, so that it cannot be guessed from a leaked digest."""

_NEVER = math.inf
_DECOY_TOKEN = "-" * LENGTH


def load_pepper(path: Path) -> bytes:
    """Read the pepper that keys are hashed with, without surrounding white space. Raises `KeyStoreError`."""
    hint = f"Create it with: head -c 32 /dev/urandom | base64 > {path}"
    try:
        pepper = path.read_bytes().strip()
    except FileNotFoundError:
        raise KeyStoreError(f"pepper file {path}: no such file. {hint}") from None
    except OSError as error:
        raise KeyStoreError(f"pepper file {path}: cannot be read: {error.strerror}") from error
    return check_pepper(pepper, f"pepper file {path}", hint)


def check_pepper(pepper: bytes, origin: str, hint: str) -> bytes:
    """Return a pepper that is long enough. Raises `KeyStoreError`."""
    if len(pepper) < MIN_PEPPER_BYTES:
        raise KeyStoreError(
            f"{origin}: {len(pepper)} bytes, but at least {MIN_PEPPER_BYTES} are needed. {hint}"
        )
    return pepper


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key ready to be compared: always two digests, the second a copy where the key has only one."""

    caller: Caller
    digests: tuple[bytes, bytes]
    expire_s: tuple[float, float]
    """Seconds of the epoch until which each digest is good."""


class KeyIndex:
    """Finds the callers of API keys.

    ``defaults`` are the limits of a tenant that sets none; ``clock`` returns seconds of the epoch; ``origin``
    is how logs name the source. `update` may run in one thread while `find` runs in another.
    """

    def __init__(
        self, pepper: bytes, *, defaults: RateLimits, clock: Callable[[], float], origin: str
    ) -> None:
        self._hmac = hmac.new(pepper, digestmod="sha256")
        self._defaults, self._clock, self._origin = defaults, clock, origin
        self._entries: Entries = {}
        self._tenants: dict[str, TenantRecord] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._live: Mapping[str, _Entry] = {}
        self._confirmed_s = -math.inf
        self.version = 0
        """Grows with every change, so that what was made of the records can be told to be old."""
        self._nobody = _Entry(_nobody(), (bytes(32), bytes(32)), (0, 0))

    @property
    def ready(self) -> bool:
        """Whether the source has been read at least once."""
        return self._confirmed_s > -math.inf

    def age_s(self) -> float:
        """Return the seconds since the source was last known to hold what is known; infinite before."""
        return max(self._clock() - self._confirmed_s, 0.0)

    def find(self, token: str) -> Caller | None:
        """Return the caller whose live key ``token`` is, or None.

        Every wrong token, malformed, unknown, revoked or expired, costs one HMAC and two comparisons. The
        checksum is not looked at: it would make a mistyped key faster than a wrong one.
        """
        if len(token) != LENGTH:
            token = _DECOY_TOKEN
        entry = self._live.get(token[ID], self._nobody)
        hashed = self._hmac.copy()
        hashed.update(token.encode())
        given, now = hashed.digest(), self._clock()
        first = hmac.compare_digest(given, entry.digests[0]) & (now < entry.expire_s[0])
        second = hmac.compare_digest(given, entry.digests[1]) & (now < entry.expire_s[1])
        return entry.caller if first | second else None

    def caller(self, tenant: str, identity: str, scopes: Scopes) -> Caller | None:
        """Return the caller of a token that is no key: of this tenant, within its scopes and limits.

        ``identity`` is what stands where a key has its id. None: there is no such tenant.
        """
        record = self._tenants.get(tenant)
        return (
            None if record is None else _caller(record, identity, scopes, (record.limits or self._defaults,))
        )

    def confirm(self) -> None:
        """Note that the source holds what is known here."""
        self._confirmed_s = self._clock()

    def update(self, entries: Entries, *, confirmed_s: float | None = None) -> list[str]:
        """Take over all records; return the names of the entries that changed.

        ``confirmed_s`` is when the source held them, in seconds of the epoch; None: now.
        """
        old = self._entries
        removed = [name for name in old if name not in entries]
        changed = [name for name, data in entries.items() if old.get(name) != data]
        for name in removed:
            kind, identity = _split(name)
            (self._keys if kind == "key" else self._tenants).pop(identity, None)
        for name in changed:
            self._read(name, entries[name])
        self._entries = entries
        if removed or changed:
            self.version += 1
            self._live = self._rebuilt({_split(name) for name in (*removed, *changed)})
        self._confirmed_s = self._clock() if confirmed_s is None else confirmed_s
        return [*removed, *changed]

    def _read(self, name: str, data: bytes) -> None:
        kind, identity = _split(name)
        try:
            if kind == "key":
                self._keys[identity] = parse(name, data, KeyRecord)
            else:
                self._tenants[identity] = parse(name, data, TenantRecord)
        except KeyStoreError as error:
            logger.error("%s: %s; the last good version stays in force", self._origin, error)

    def _rebuilt(self, changed: set[tuple[str, str]]) -> dict[str, _Entry]:
        """Return the live keys, with those made anew that changed, or whose tenant did."""
        live = {identity: entry for identity, entry in self._live.items() if identity in self._keys}
        for identity, key in self._keys.items():
            if ("key", identity) in changed or ("tenant", key.tenant) in changed:
                entry = self._entry(key)
                if entry is None:
                    live.pop(identity, None)
                else:
                    live[identity] = entry
        return live

    def _entry(self, key: KeyRecord) -> _Entry | None:
        """Return a key ready to be compared; None when it is revoked or its tenant is not there."""
        if key.revoked_at is not None:
            return None
        tenant = self._tenants.get(key.tenant)
        if tenant is None:
            logger.error(
                "%s: %s: there is no %s; the key is not served",
                self._origin,
                key_entry(key.id),
                tenant_entry(key.tenant),
            )
            return None
        newest, oldest = key.secrets[0], key.secrets[-1]
        end_s = _epoch(key.expires_at)
        return _Entry(
            caller=_caller(
                tenant,
                key.id,
                key.scopes,
                (tenant.limits or self._defaults, *([key.limits] if key.limits else ())),
            ),
            digests=(bytes.fromhex(newest.digest), bytes.fromhex(oldest.digest)),
            expire_s=(min(_epoch(newest.expires_at), end_s), min(_epoch(oldest.expires_at), end_s)),
        )


def _split(entry: str) -> tuple[str, str]:
    """Return kind and identity of ``key.<id>.json`` or ``tenant.<name>.json``."""
    kind, _, rest = entry.partition(".")
    return kind, rest.removesuffix(".json")


def _caller(tenant: TenantRecord, identity: str, own: Scopes, limits: tuple[RateLimits, ...]) -> Caller:
    scopes = within(own, tenant.scopes)
    return Caller(
        tenant=tenant.name,
        key_id=identity,
        models=None if scopes.models is None else frozenset(scopes.models),
        max_effort=scopes.max_effort,
        see_reasoning=scopes.see_reasoning,
        limits=limits,
        endpoints=None if scopes.endpoints is None else frozenset(scopes.endpoints),
        default_effort=tenant.default_effort,
        max_reasoning_tokens=scopes.max_reasoning_tokens,
        tier=scopes.service_tier,
    )


def _nobody() -> Caller:
    return Caller(tenant="", key_id="", models=frozenset(), max_effort="low", see_reasoning=False, limits=())


def _epoch(moment: datetime | None) -> float:
    return _NEVER if moment is None else moment.astimezone(UTC).timestamp()
