"""The embedding that is never trained: 201,088 rows, rebuilt from each token's bytes.

A row is a *name*, 112 signs drawn from the SHA-256 of the token's text, beside 16 *features* (begins with a
space, is a word, is a digit, …). The unembedding starts from the same rows, so that a circuit which copies
one token copies every token, seen in training or not; and the features tell the model what kind of token it
never saw. A word with and without its leading space has one name and differs in a feature alone: the model
can copy ` Paris` out of a sentence into `{"city":"Paris"}`.

Everything here is exact in bfloat16 and needs no random generator, so every machine builds the same bytes.
"""

import enum
import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cluster.tinymodel import shape

FEATURES = 16
NAME = shape.HIDDEN - FEATURES
INPUT_SCALE = 0.5
OUTPUT_SCALE = 0.25
SEED = b"gpt-oss-cluster tiny model 1\0"

_SPACELESS_SCRIPTS = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0xA4CF),
    (0xF900, 0xFAFF),
)
_HAN_LEAD_BYTES = range(0xE3, 0xEA)
_FRAGMENT = "\ufffd"


class Kind(enum.Enum):
    """What a token may do in a word: begin one wherever it stands, continue one, or neither."""

    BEGINS = enum.auto()
    CONTINUES = enum.auto()
    OTHER = enum.auto()


def core(token: bytes) -> bytes:
    """Return the token's text without one leading space."""
    return token[1:] if token[:1] == b" " and len(token) > 1 else token


def kind(token: bytes) -> Kind:
    """Classify an ordinary token by its first character; scripts without spaces begin a word each time.

    A piece of a character counts as part of a word: copying a word must not cut one in half.
    """
    text, spaced = core(token), token[:1] == b" " and len(token) > 1
    first = text.decode("utf-8", errors="replace")[0]
    if first == _FRAGMENT:
        return Kind.BEGINS if spaced or text[0] in _HAN_LEAD_BYTES else Kind.CONTINUES
    if not (first.isalnum() or unicodedata.category(first).startswith("M")):
        return Kind.OTHER
    return Kind.BEGINS if spaced or _spaceless(first) else Kind.CONTINUES


def rows(tokens: Sequence[bytes], *, first_control: int = shape.START_OF_TEXT) -> npt.NDArray[np.float32]:
    """Return the seed rows, float32 [len(tokens), HIDDEN], of ±1 names and 0 or 2 features, unscaled.

    `tokens` holds each id's bytes; from `first_control` on they are control tokens.
    """
    digests = b"".join(hashlib.sha256(SEED + core(token)).digest() for token in tokens)
    bits = np.unpackbits(np.frombuffer(digests, dtype=np.uint8).reshape(len(tokens), 32), axis=1)
    names = bits[:, :NAME].astype(np.float32) * 2 - 1
    features = np.zeros((len(tokens), FEATURES), dtype=np.float32)
    for index, token in enumerate(tokens):
        features[index] = _control_features() if index >= first_control else _features(token)
    return np.concatenate([names, features * 2], axis=1)


def _spaceless(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in _SPACELESS_SCRIPTS) or ord(character) >= 0x20000


def _control_features() -> list[bool]:
    return [True] + [False] * (FEATURES - 1)


def _features(token: bytes) -> list[bool]:
    text = core(token)
    decoded = text.decode("utf-8", errors="replace")
    word = kind(token)
    return [
        False,
        token[:1] == b" ",
        word is Kind.BEGINS,
        word is Kind.CONTINUES,
        decoded[0].isdigit(),
        decoded[0].isupper(),
        decoded[-1].isalnum(),
        decoded.isspace(),
        b"\n" in token,
        b'"' in token or b"\\" in token,
        b":" in token,
        b"," in token,
        b"." in token,
        b"{" in token or b"[" in token,
        b"}" in token or b"]" in token,
        _FRAGMENT in decoded,
    ]
