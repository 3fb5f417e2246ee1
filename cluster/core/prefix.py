"""Keys that say which prompts share a beginning, telling nothing about what it is.

They decide where a request runs (affinity to the replica whose prefix cache has the beginning) and which
tenants may share cached blocks at all. Each is keyed with a secret, as the texts are often guessable.
"""

import hashlib
import hmac

from cluster.core.effort import Effort

KEY_DIGITS = 16
"""Hex digits of a routing key: 64 bits."""


def prefix_key(salt: bytes, model: str, effort: Effort, text: bytes) -> str:
    """Return the key of a shared prompt prefix: the first 64 bits of SHA-256, hex; empty without a text.

    ``text`` is `ParsedRequest.prefix_text`: tools and developer text. Model and effort are hashed too, as
    Harmony puts the effort at the prompt's start, so that no cached block is shared across efforts.
    """
    if not text:
        return ""
    named, level = model.encode(), effort.encode()
    head = b"%d:%b%d:%b%d:%b%d:" % (len(salt), salt, len(named), named, len(level), level, len(text))
    return hashlib.sha256(head + text).hexdigest()[:KEY_DIGITS]


def conversation_key(secret: bytes, cache_key: str) -> str:
    """Return the key of a conversation, 16 hex digits, from its ``prompt_cache_key``; empty without one."""
    if not cache_key:
        return ""
    return hmac.digest(secret, b"conversation:" + cache_key.encode(), hashlib.sha256).hex()[:KEY_DIGITS]


def cache_salt(secret: bytes, tenant: str) -> str:
    """Return the salt of a tenant's prefix cache: 64 hex digits, the same in every gateway."""
    return hmac.digest(secret, b"cache-salt:" + tenant.encode(), hashlib.sha256).hex()
