"""Facts about prefix, conversation and cache keys."""

import re

from cluster.core.prefix import cache_salt, conversation_key, prefix_key


def test_prefix_key_is_64_bits() -> None:
    """A prefix key is 16 hex digits, and the same each time."""
    key = prefix_key(b"salt", "gpt-oss-120b", "low", b"You are a pirate.")
    assert re.fullmatch(r"[0-9a-f]{16}", key)
    assert key == prefix_key(b"salt", "gpt-oss-120b", "low", b"You are a pirate.")


def test_every_part_counts() -> None:
    """Salt, model, effort and text each change the prefix key, and cannot run into each other."""
    keys = {
        prefix_key(b"salt", "gpt-oss-120b", "low", b"text"),
        prefix_key(b"tlas", "gpt-oss-120b", "low", b"text"),
        prefix_key(b"salt", "gpt-oss-20b", "low", b"text"),
        prefix_key(b"salt", "gpt-oss-120b", "high", b"text"),
        prefix_key(b"salt", "gpt-oss-120b", "low", b"test"),
        prefix_key(b"saltgpt", "-oss-120b", "low", b"text"),
    }
    assert len(keys) == 6


def test_no_text_no_key() -> None:
    """Without tools and developer text there is no prefix key, without a cache key no conversation key."""
    assert prefix_key(b"salt", "gpt-oss-120b", "low", b"") == ""
    assert conversation_key(b"secret", "") == ""


def test_conversation_key_is_secret() -> None:
    """A conversation key is 16 hex digits that cannot be computed without the secret."""
    assert re.fullmatch(r"[0-9a-f]{16}", conversation_key(b"secret", "thread-1"))
    assert conversation_key(b"secret", "thread-1") != conversation_key(b"other", "thread-1")


def test_tenants_do_not_share_a_cache() -> None:
    """Each tenant has a cache salt of its own, which tells nothing without the secret."""
    assert cache_salt(b"secret", "ads") != cache_salt(b"secret", "search") != cache_salt(b"other", "search")
    assert re.fullmatch(r"[0-9a-f]{64}", cache_salt(b"secret", "ads"))
