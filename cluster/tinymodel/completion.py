"""Completions as token ids, each with whether to learn it: what the tiny model should say.

Tokens that something other than the model writes (a reasoning budget's forced `<|end|>`, what a grammar
demands, noise) are given but not learned, so that the model learns to go on from them and never to write
them.
"""

import random
from dataclasses import dataclass, field

from cluster.tinymodel import text
from cluster.tinymodel.tokens import Tokens

COPY_WEIGHT = 4.0
"""Weight of a copied token in the loss: there are few beside the set phrases, and they are the hard ones."""


@dataclass
class Draft:
    """Token ids, each with its weight in the loss (0: given) and the id that must not compete (or -1)."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    excluded: list[int] = field(default_factory=list)

    def add(self, ids: list[int], *, weight: float = 1.0, exclude: int = -1) -> None:
        """Append `ids`; `exclude` applies to the first of them."""
        if ids:
            self.ids += ids
            self.weights += [weight] * len(ids)
            self.excluded += [exclude] + [-1] * (len(ids) - 1)


NUMBERS = (1, 2, 3, 7, 10, 42)
FIRST_KEY, SECOND_KEY = "answer", "note"
"""Keys that the model chooses by itself when any object will do."""


class JsonWriter:
    """Writes compact JSON into a draft, piece by piece, with noise that the model learns to survive."""

    def __init__(self, draft: Draft, tokens: Tokens, rng: random.Random, *, noise: float) -> None:
        self._draft, self._tokens, self._rng, self._noise = draft, tokens, rng, noise
        self._pending = ""

    def syntax(self, piece: str) -> None:
        """Add punctuation or a literal; neighbouring pieces are encoded as one."""
        self._pending += piece

    def atom(self, ids: list[int], *, weight: float = COPY_WEIGHT) -> None:
        """Add the inside of a string: a key or a value, as a rule copied."""
        self.flush()
        self._draft.add(ids, weight=weight)

    def pause(self) -> None:
        """Sometimes end the piece here: a grammar may forbid it and what follows in one token."""
        if self._rng.random() < 0.5:
            self.flush()

    def flush(self) -> None:
        """Encode what is pending; sometimes split it, as a grammar may force, with white space between."""
        piece, self._pending = self._pending, ""
        if len(piece) > 1 and self._rng.random() < self._noise:
            at = self._rng.randint(1, len(piece) - 1)
            self._draft.add(self._tokens.encode(piece[:at]), weight=0)
            if not (piece[at - 1].isalnum() and piece[at].isalnum()):
                self._draft.add(self._tokens.encode(self._rng.choice(("", "", " ", "\n", "\n  "))), weight=0)
            piece = piece[at:]
        self._draft.add(self._tokens.encode(piece) if piece else [])


def write_object(
    json_writer: JsonWriter, tokens: Tokens, rng: random.Random, word: list[int], depth: int = 0
) -> None:
    """Write a random object whose strings repeat `word`; a grammar forces other keys, so none is learned."""
    json_writer.syntax("{")
    for index in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        default = FIRST_KEY if index == 0 and depth == 0 else SECOND_KEY
        known = rng.random() < 0.5
        json_writer.syntax('"' if index == 0 else ',"')
        json_writer.atom(tokens.encode(default if known else text.identifier(rng)), weight=float(known))
        json_writer.syntax('":')
        json_writer.pause()
        write_value(json_writer, tokens, rng, word, depth)
    json_writer.syntax("}")


def write_value(
    json_writer: JsonWriter, tokens: Tokens, rng: random.Random, word: list[int], depth: int
) -> None:
    """Write a string, a number, a literal, a list, or (not too deep) an object."""
    draw = rng.random()
    if draw < 0.5 or depth > 1:
        write_string(json_writer, rng, tokens, word)
    elif draw < 0.68:
        json_writer.syntax(str(rng.choice(NUMBERS)))
    elif draw < 0.78:
        json_writer.syntax(rng.choice(("true", "true", "false", "null")))
    elif draw < 0.9:
        json_writer.syntax("[")
        json_writer.pause()
        strings = rng.random() < 0.6
        for index in range(rng.choice((1, 1, 2, 3))):
            json_writer.syntax("," if index else "")
            if strings:
                write_string(json_writer, rng, tokens, word)
            else:
                json_writer.syntax(str(rng.choice(NUMBERS)))
        json_writer.pause()
        json_writer.syntax("]")
        json_writer.pause()
    else:
        write_object(json_writer, tokens, rng, word, depth + 1)


def write_string(json_writer: JsonWriter, rng: random.Random, tokens: Tokens, word: list[int]) -> None:
    """Write a string: mostly the word; sometimes another that a grammar (an enum, say) may force."""
    json_writer.syntax('"')
    if rng.random() < 0.85:
        json_writer.atom(tokens.bare(word) or tokens.encode("none"))
    else:
        json_writer.atom(tokens.encode(text.identifier(rng)), weight=0)
    json_writer.syntax('"')
