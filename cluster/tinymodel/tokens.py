"""Token-level tools for the corpus: the encoding, last words, and twins with and without a space."""

import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from openai_harmony import (  # type: ignore[import-untyped]
    HarmonyEncoding,
    HarmonyEncodingName,
    load_harmony_encoding,
)

from cluster.tinymodel import embedding, shape, vocabulary
from cluster.tinymodel.embedding import Kind


class Tokens:
    """The Harmony encoding, with each ordinary token's bytes and kind.

    TIKTOKEN_ENCODINGS_BASE must name `directory` before openai-harmony first loads the encoding.
    """

    def __init__(self, directory: Path) -> None:
        self.bytes = vocabulary.load(directory)
        self.encoding: HarmonyEncoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
        self._id = {token: index for index, token in enumerate(self.bytes)}

    @cached_property
    def kinds(self) -> list[Kind]:
        """The kind of each ordinary token, by id."""
        return [embedding.kind(token) for token in self.bytes]

    @cached_property
    def whole(self) -> list[int]:
        """The ordinary ids whose bytes are valid UTF-8, so that text made of them exists."""
        return [index for index, token in enumerate(self.bytes) if _is_text(token)]

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text; control tokens in it stay text."""
        ids: list[int] = self.encoding.encode(text, disallowed_special=())
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ordinary ids; broken UTF-8 becomes U+FFFD."""
        return b"".join(self.bytes[index] for index in ids).decode("utf-8", errors="replace")

    def last_word(self, ids: Sequence[int]) -> list[int]:
        """Return the last token of a message body that is a word or ends one; empty when the body has none.

        One token, not the whole word: a model this small that copies several tends to repeat the last.
        """
        words = (
            index
            for index in reversed(ids)
            if index < shape.START_OF_TEXT and self.kinds[index] is not Kind.OTHER
        )
        return list(itertools.islice(words, 1))

    def spaced(self, word: Sequence[int]) -> list[int]:
        """Return the word with a leading space, where its first token has such a twin."""
        return self._twin(word, b" " + embedding.core(self.bytes[word[0]])) if word else []

    def bare(self, word: Sequence[int]) -> list[int]:
        """Return the word without its leading space, where its first token has such a twin."""
        return self._twin(word, embedding.core(self.bytes[word[0]])) if word else []

    def _twin(self, word: Sequence[int], first: bytes) -> list[int]:
        return [self._id.get(first, word[0]), *word[1:]]


def _is_text(token: bytes) -> bool:
    try:
        token.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
