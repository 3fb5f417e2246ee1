"""What the claims of a verified token mean here: a tenant, and what it may do at most. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.settings import ClaimSettings, Scopes
from cluster.stores.records import AS_ITS_TENANT, merged

_WORDS = ("scope", "scp")
"""Claims that hold words with spaces between them (RFC 8693)."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a token may do, before its tenant narrows it."""

    tenant: str
    scopes: Scopes


def granted(claims: Mapping[str, Any], settings: ClaimSettings) -> Granted | None:
    """Return what the settings make of ``claims``; None: nothing, the token is nobody's."""
    named = claim(claims, settings.tenant) if settings.tenant is not None else None
    own = named if isinstance(named, str) else None
    if not settings.grants:
        return None if own is None else Granted(own, AS_ITS_TENANT)
    for grant in settings.grants:
        if grant.value in values(claims, grant.claim):
            tenant = grant.tenant or own
            return None if tenant is None else Granted(tenant, merged(AS_ITS_TENANT, grant.scopes))
    return None


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim of this name, or at this dotted path through objects; None where there is none."""
    if name in claims:  # names with dots in them, such as URLs, come first
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def values(claims: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of a claim: itself, the strings of its list, or the words of a scope."""
    value = claim(claims, name)
    if isinstance(value, str):
        return value.split() if name in _WORDS else [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
