"""Tokens (JWT) of trusted issuers: who is the caller of this one.

PyJWT checks signature and claims; everything that a token says of how to check it is ignored or refused: the
algorithm is one of the settings', the key is the issuer's own (``kid`` is a word to look up; ``jku``, ``x5u``
and ``jwk`` are not looked at), and a header that demands what is not understood (``crit``) is refused. A
verified token is remembered by its full SHA-256 until it expires, so that its next use costs one digest.
"""

import re
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt
import orjson

from cluster.settings import JwtSettings
from cluster.stores.caller import Caller
from cluster.stores.claims import Granted, granted
from cluster.stores.jwks import Jwks
from cluster.stores.key_index import KeyIndex

MAX_TOKEN_BYTES = 8192
"""Longest token."""
MAX_REMEMBERED = 10_000
"""Verified tokens that are remembered; the least recently used ones are forgotten."""
LEEWAY_S = 60
"""Seconds by which the issuer's clock may differ from ours."""

_KID = re.compile(r"[\x21-\x7e]{1,256}")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_TYPES = {"jwt", "at+jwt", "application/at+jwt"}
_FORBIDDEN = {"crit", "b64", "zip", "enc"}
"""Header members that would change how a token is to be read."""
_BAD = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What PyJWT raises on a token that is wrong in any way, a huge number in its claims included."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted issuer and its keys."""

    settings: JwtSettings
    keys: Jwks


@dataclass(slots=True)
class _Verified:
    """A token that was good."""

    issuer: Issuer
    identity: str
    grant: Granted
    expires_s: float
    keys_version: int
    """Version of the issuer's keys that verified it."""
    caller: Caller | None = None
    index_version: int = -1
    """Version of the tenants that ``caller`` was made of."""


class Tokens:
    """Finds the callers of tokens; tenants are those of ``index``, ``clock`` returns seconds of the epoch."""

    def __init__(self, issuers: Sequence[Issuer], index: KeyIndex, *, clock: Callable[[], float]) -> None:
        self.issuers = tuple(issuers)
        self._index, self._clock = index, clock
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    def find(self, token: str) -> Caller | None:
        """Return the caller of a good token, or None."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        digest = sha256(token.encode()).digest()
        known = self._recall(digest) or self._verify(token)
        if known is None or not known.issuer.keys.good:
            return None
        if known.index_version != self._index.version:
            known.index_version = self._index.version
            known.caller = self._index.caller(known.grant.tenant, known.identity, known.grant.scopes)
        self._remember(digest, known)
        return known.caller

    def _recall(self, digest: bytes) -> _Verified | None:
        known = self._remembered.get(digest)
        if known is None:
            return None
        if self._clock() < known.expires_s and known.keys_version == known.issuer.keys.version:
            return known
        del self._remembered[digest]
        return None

    def _remember(self, digest: bytes, known: _Verified) -> None:
        self._remembered[digest] = known
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _verify(self, token: str) -> _Verified | None:
        head = _head(token)
        if head is None:
            return None
        kid, algorithm = head
        found = [
            (issuer, key) for issuer in self.issuers if (key := issuer.keys.get(kid, algorithm)) is not None
        ]
        if not found:
            for issuer in self.issuers:
                issuer.keys.want()
        for issuer, key in found:
            known = _verified(token, issuer, key)
            if known is not None:
                return known
        return None


def _head(token: str) -> tuple[str, str] | None:
    """Return key id and algorithm of a token whose header may be believed so far; None for any other."""
    first, *rest = token.split(".")
    if len(rest) != 2:  # five parts are an encrypted token
        return None
    try:
        header = orjson.loads(urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (Base64Error, ValueError):
        return None
    if not isinstance(header, dict) or not _FORBIDDEN.isdisjoint(header):
        return None
    kid, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ", "JWT")
    if "cty" in header or not isinstance(kind, str) or kind.lower() not in _TYPES:  # a token in a token
        return None
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None or not isinstance(algorithm, str):
        return None
    return kid, algorithm


def _verified(token: str, issuer: Issuer, key: jwt.PyJWK) -> _Verified | None:
    settings, version = issuer.settings, issuer.keys.version
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=settings.issuer,
            audience=settings.audience,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "exp", "sub"], "strict_aud": True},
        )
        expires_s = float(claims["exp"]) + LEEWAY_S
    except _BAD:
        return None
    grant = granted(claims, settings.claims)
    subject = claims["sub"]
    if grant is None or not isinstance(subject, str) or _SUBJECT.fullmatch(subject) is None:
        return None
    return _Verified(issuer, f"{settings.name}:{subject}", grant, expires_s, version)
