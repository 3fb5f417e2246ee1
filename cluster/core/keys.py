"""API keys: their form, their checksum and the digest that is kept of them.

A key is ``gos_live_`` + 8 characters of id + 32 of secret + 6 of checksum, all base 62. The id finds the
record, the checksum tells a typing error from a wrong key (and lets secret scanners find leaked keys without
false alarms), and only the HMAC-SHA-256 of the whole key under a pepper is ever stored.
"""

import hashlib
import hmac
import re
import zlib

PREFIX = "gos_live_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 8
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
LENGTH = len(PREFIX) + ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH
ID = slice(len(PREFIX), len(PREFIX) + ID_LENGTH)
"""Where the id stands in a key."""
RANDOM_BYTES = 40
"""Randomness that one key takes: 320 bits for 238 bits of key, so that the modulo's bias is below 2^-80."""

_FORM = re.compile(PREFIX + r"[0-9A-Za-z]{46}")


def mint(random: bytes, *, key_id: str | None = None) -> str:
    """Return a new key made of ``random``, which must be ``RANDOM_BYTES`` unpredictable bytes.

    ``key_id`` keeps the id of an existing key, for its rotation.
    """
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key takes {RANDOM_BYTES} random bytes, not {len(random)}")
    text = _base62(int.from_bytes(random, "big"), ID_LENGTH + SECRET_LENGTH)
    body = PREFIX + (key_id or text[:ID_LENGTH]) + text[ID_LENGTH:]
    return body + _checksum(body)


def well_formed(token: str) -> bool:
    """Whether ``token`` has a key's form and a right checksum: what a scanner for leaked keys asks."""
    return _FORM.fullmatch(token) is not None and token.endswith(_checksum(token[:-CHECKSUM_LENGTH]))


def key_id(token: str) -> str:
    """Return the id inside a well-formed key."""
    return token[ID]


def digest(pepper: bytes, token: str) -> str:
    """Return the digest that is stored of a key: HMAC-SHA-256 under the pepper, 64 hex digits."""
    return hmac.digest(pepper, token.encode(), hashlib.sha256).hex()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
