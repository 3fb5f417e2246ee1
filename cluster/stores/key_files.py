"""Tenants and keys read from a directory, and read again when it changes.

The directory holds ``tenant.<name>.json`` and ``key.<id>.json`` (`records`); a mounted Kubernetes Secret has
the same form. A file that is broken keeps the last good version of its entry and is logged, so that a slip of
an editor takes nobody's access away; a key whose tenant is unknown is not served.
"""

import hmac
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from cluster.core.keys import digest, key_id, mint, well_formed
from cluster.settings import RateLimits
from cluster.stores.caller import Caller
from cluster.stores.records import KeyRecord, Scopes, TenantRecord, within

logger = logging.getLogger(__name__)

MIN_PEPPER_BYTES = 32
"""Shortest pepper: as long as the hash, so that it cannot be guessed from a leaked digest."""

Record = TypeVar("Record", KeyRecord, TenantRecord)
_Stamp = tuple[int, int, int]
_NEVER = float("inf")


class KeyStoreError(Exception):
    """Tenants, keys or the pepper cannot be read or changed; the message says what to do."""


def load_pepper(path: Path) -> bytes:
    """Read the pepper that keys are hashed with, without surrounding white space. Raises `KeyStoreError`."""
    hint = f"Create it with: head -c 32 /dev/urandom | base64 > {path}"
    try:
        pepper = path.read_bytes().strip()
    except FileNotFoundError:
        raise KeyStoreError(f"pepper file {path}: no such file. {hint}") from None
    except OSError as error:
        raise KeyStoreError(f"pepper file {path}: cannot be read: {error.strerror}") from error
    if len(pepper) < MIN_PEPPER_BYTES:
        raise KeyStoreError(
            f"pepper file {path}: {len(pepper)} bytes, but at least {MIN_PEPPER_BYTES} are needed. {hint}"
        )
    return pepper


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key ready to be compared: always two digests, the second a copy where the key has only one."""

    caller: Caller
    digests: tuple[str, str]
    expire_s: tuple[float, float]
    """Seconds of the epoch until which each digest is good."""


class KeyFiles:
    """The `KeyStore` on a directory.

    ``defaults`` are the limits of a tenant that sets none; ``clock`` returns seconds of the epoch. Nothing is
    read until the first `refresh`, which may run in one thread while `find` runs in another.
    """

    def __init__(
        self, directory: Path, pepper: bytes, *, defaults: RateLimits, clock: Callable[[], float]
    ) -> None:
        self._directory, self._pepper = directory, pepper
        self._defaults, self._clock = defaults, clock
        self._stamps: dict[str, _Stamp] = {}
        self._tenants: dict[str, TenantRecord] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._entries: Mapping[str, _Entry] = {}
        self._trouble: str | None = None
        self._ready = False
        self._decoy_token = mint(bytes(40))
        self._decoy = _Entry(_nobody(), ("0" * 64, "0" * 64), (0, 0))

    @property
    def ready(self) -> bool:
        """Whether the directory has been read at least once."""
        return self._ready

    def find(self, token: str) -> Caller | None:
        """Return the caller whose live key ``token`` is, or None.

        Every wrong token, malformed, unknown, revoked or expired, costs one HMAC and two comparisons.
        """
        good = well_formed(token)
        if not good:
            token = self._decoy_token
            well_formed(token)  # the time that the checksum of a well-formed token takes
        entry = self._entries.get(key_id(token), self._decoy) if good else self._decoy
        given, now = digest(self._pepper, token), self._clock()
        first = hmac.compare_digest(given, entry.digests[0]) and now < entry.expire_s[0]
        second = hmac.compare_digest(given, entry.digests[1]) and now < entry.expire_s[1]
        return entry.caller if good and (first or second) else None

    def refresh(self) -> bool:
        """Read what has changed in the directory; return whether anything had.

        Cheap when nothing changed: one listing and one ``stat`` a file. A directory that cannot be listed
        keeps everything as it was, and is logged once.
        """
        try:
            stamps = _stamps(self._directory)
        except OSError as error:
            self._complain(f"{self._directory}: cannot be listed: {error.strerror}; nothing is changed")
            return False
        self._trouble = None
        if stamps == self._stamps and self._ready:
            return False
        for name in self._stamps.keys() - stamps.keys():
            self._forget(name)
        for name, stamp in stamps.items():
            if self._stamps.get(name) != stamp:
                self._read(name)
        self._stamps = stamps
        self._entries = self._build()
        self._ready = True
        return True

    def _forget(self, name: str) -> None:
        kind, identity = _split(name)
        (self._keys if kind == "key" else self._tenants).pop(identity, None)

    def _read(self, name: str) -> None:
        kind, identity = _split(name)
        path = self._directory / name
        try:
            if kind == "key":
                self._keys[identity] = read_record(path, KeyRecord)
            else:
                self._tenants[identity] = read_record(path, TenantRecord)
        except KeyStoreError as error:
            logger.error("%s; the last good version stays in force", error)

    def _build(self) -> dict[str, _Entry]:
        entries = {}
        for identity, key in self._keys.items():
            tenant = self._tenants.get(key.tenant)
            if tenant is None:
                logger.error(
                    "key.%s.json: tenant %r has no file; the key is not served", identity, key.tenant
                )
            elif key.revoked_at is None:
                entries[identity] = _entry(key, tenant, self._defaults)
        return entries

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            logger.error("%s", trouble)
        self._trouble = trouble


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read one record. Raises `KeyStoreError`, which names the file and the mistake, never a value in it."""
    try:
        record = kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}"
            for item in error.errors(include_input=False, include_context=False, include_url=False)
        )
        raise KeyStoreError(f"{path}: {mistakes}") from None
    name = record.id if isinstance(record, KeyRecord) else record.name
    if name != _split(path.name)[1]:
        raise KeyStoreError(f"{path}: the record inside is of another name than its file")
    return record


def _split(name: str) -> tuple[str, str]:
    """Return kind and identity of ``key.<id>.json`` or ``tenant.<name>.json``."""
    kind, _, rest = name.partition(".")
    return kind, rest.removesuffix(".json")


def _stamps(directory: Path) -> dict[str, _Stamp]:
    """Return what tells a changed file from an unchanged one, by name. Other files are left alone."""
    with os.scandir(directory) as items:
        found = [item for item in items if item.name.startswith(("key.", "tenant."))]
    stamps = {}
    for item in found:
        if not item.name.endswith(".json"):
            continue
        try:
            stat = item.stat()
        except FileNotFoundError:  # removed since the listing
            continue
        stamps[item.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return stamps


def _entry(key: KeyRecord, tenant: TenantRecord, defaults: RateLimits) -> _Entry:
    scopes = within(key.scopes, tenant.scopes)
    newest, oldest = key.secrets[0], key.secrets[-1]
    return _Entry(
        caller=_caller(key, scopes, (tenant.limits or defaults, *([key.limits] if key.limits else ()))),
        digests=(newest.digest, oldest.digest),
        expire_s=(
            min(_epoch(newest.expires_at), _epoch(key.expires_at)),
            min(_epoch(oldest.expires_at), _epoch(key.expires_at)),
        ),
    )


def _caller(key: KeyRecord, scopes: Scopes, limits: tuple[RateLimits, ...]) -> Caller:
    return Caller(
        tenant=key.tenant,
        key_id=key.id,
        models=None if scopes.models is None else frozenset(scopes.models),
        max_effort=scopes.max_effort,
        see_reasoning=scopes.see_reasoning,
        limits=limits,
        endpoints=None if scopes.endpoints is None else frozenset(scopes.endpoints),
    )


def _nobody() -> Caller:
    return Caller(tenant="", key_id="", models=frozenset(), max_effort="low", see_reasoning=False, limits=())


def _epoch(moment: datetime | None) -> float:
    return _NEVER if moment is None else moment.astimezone(UTC).timestamp()
