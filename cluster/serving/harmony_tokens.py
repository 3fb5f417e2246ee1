"""Harmony at the level of token ids: which tokens of an answer are reasoning.

No parser and no vLLM: counting must not fail where parsing does, and runs once per generated token.
Ids are those of the ``o200k_harmony`` vocabulary.
"""

from collections.abc import Iterable, Sequence

CONSTRAIN, CHANNEL, START, END, MESSAGE = 200003, 200005, 200006, 200007, 200008
RETURN, CALL = 200002, 200012
FIRST_SPECIAL = 199998
ANALYSIS = 35644
"""``analysis``, which is a single token."""
RECIPIENT = 316
"""`` to``, which in a header opens ``to=<recipient>``."""


class ReasoningCounter:
    """Counts one answer's tokens: reasoning is the body of analysis messages that address nobody.

    All else is answer: headers, calls and final text. Feed it the ids in order, in any portions.
    """

    __slots__ = ("_analysis", "_in_body", "_last", "_recipient", "reasoning", "total")

    def __init__(self) -> None:
        self.reasoning = 0
        self.total = 0
        self._last = 0
        self._open_header()

    @property
    def answer(self) -> int:
        """Tokens that are not reasoning."""
        return self.total - self.reasoning

    @property
    def thinking(self) -> bool:
        """Whether the next token would be reasoning, or end it."""
        return self._in_body and self._analysis and not self._recipient

    def feed(self, token_ids: Iterable[int]) -> int:
        """Count ``token_ids`` and return how many of them are reasoning."""
        before = self.reasoning
        for token in token_ids:
            self.total += 1
            if self._in_body:
                self._in_message(token)
            else:
                self._in_header(token)
        return self.reasoning - before

    def _in_message(self, token: int) -> None:
        if token in (END, CALL, RETURN, START):
            self._open_header()
        elif self._analysis and not self._recipient:  # `thinking`, without a call for each token
            self.reasoning += 1

    def _in_header(self, token: int) -> None:
        if token == MESSAGE:
            self._in_body = True
        elif token in (END, CALL, RETURN, START):
            self._open_header()
        elif token == RECIPIENT:
            self._recipient = True
        elif self._last == CHANNEL:
            self._analysis = token == ANALYSIS
        self._last = token

    def _open_header(self) -> None:
        self._in_body = self._analysis = self._recipient = False
        self._last = 0


class Thought:
    """Measures the chain of thought at hand of one answer, which may have several."""

    def __init__(self) -> None:
        self._counter = ReasoningCounter()
        self._before = 0
        """Reasoning tokens of earlier chains."""

    def length(self, token_ids: Sequence[int]) -> int | None:
        """Return the tokens of the open chain of thought; None: none is open.

        ``token_ids`` are all ids of the answer so far, negative ones where an id is not known yet.
        """
        counter = self._counter
        for token in token_ids[counter.total :]:
            if token < 0:
                break
            counter.feed((token,))
            if not counter.thinking:
                self._before = counter.reasoning
        return counter.reasoning - self._before if counter.thinking else None


def count_reasoning(token_ids: Iterable[int]) -> int:
    """Return the number of reasoning tokens of a whole answer."""
    return ReasoningCounter().feed(token_ids)
