"""Facts about API keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.keys import ALPHABET, LENGTH, RANDOM_BYTES, digest, key_id, mint, well_formed

randoms = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)
KEY = mint(bytes(range(RANDOM_BYTES)))


@given(randoms)
def test_minted_keys_are_well_formed(random: bytes) -> None:
    """A key is 55 characters, all of base 62 after its prefix, and its checksum is right."""
    key = mint(random)
    assert len(key) == LENGTH == 55
    assert key.startswith("gos_live_")
    assert set(key.removeprefix("gos_live_")) <= set(ALPHABET)
    assert well_formed(key)


@given(randoms, st.integers(9, LENGTH - 1), st.sampled_from(ALPHABET))
def test_one_wrong_character_breaks_the_checksum(random: bytes, place: int, char: str) -> None:
    """A key with one character changed is not well-formed."""
    key = mint(random)
    changed = key[:place] + char + key[place + 1 :]
    assert well_formed(changed) == (changed == key)


@given(randoms, randoms)
def test_randomness_reaches_the_key(one: bytes, other: bytes) -> None:
    """Different randomness makes different keys."""
    assert (mint(one) == mint(other)) == (one == other)


def test_rotation_keeps_the_id() -> None:
    """A key minted for an id carries it, with a secret and a checksum of its own."""
    rotated = mint(bytes(reversed(range(RANDOM_BYTES))), key_id=key_id(KEY))
    assert key_id(rotated) == key_id(KEY)
    assert rotated != KEY
    assert well_formed(rotated)


def test_too_little_randomness_is_refused() -> None:
    """A key is never made of fewer random bytes than it needs."""
    with pytest.raises(ValueError, match="40 random bytes, not 16"):
        mint(bytes(16))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("sk-" + "a" * 48, id="another-vendor"),
        pytest.param(KEY[:-1], id="short"),
        pytest.param(KEY + "0", id="long"),
        pytest.param(KEY + "\n", id="newline"),
        pytest.param(KEY.upper(), id="other-case"),
        pytest.param(KEY[:20] + "é" + KEY[21:], id="not-ascii"),
        pytest.param(KEY[:20] + "\uff11" + KEY[21:], id="full-width-digit"),
    ],
)
def test_anything_else_is_malformed(token: str) -> None:
    """Whatever is not exactly a key is malformed."""
    assert not well_formed(token)


def test_digest_depends_on_pepper_and_key() -> None:
    """A digest is 64 hex digits of HMAC-SHA-256, and changes with the pepper and with the key."""
    assert digest(b"pepper", "token") == "d06900724f36b88d7f0b2d77004645b24578b2629a5d666200fa5ab3f509b45e"
    assert digest(b"other", "token") != digest(b"pepper", "token") != digest(b"pepper", "nekot")
