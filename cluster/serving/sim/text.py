"""What the simulated model says: a pure function of the conversation, token by token.

The shape is Harmony's: an analysis channel whose length follows the effort, then a final answer or a call,
with the control tokens that frame them, because they count as output too.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from cluster.serving.sim.job import Job, Tool
from cluster.serving.sim.schema import example
from cluster.settings import SimulatedEngine

Kind = Literal["control", "reasoning", "answer", "call"]

CALL_TOKEN = 200012
"""Id of Harmony's ``<|call|>``, which vLLM reports as the stop reason of a call."""

SPREAD = 0.4
"""Lengths vary evenly within this share around the configured one."""

MAX_WORD = 24
"""Longest word that is repeated from a prompt, in characters."""


@dataclass(frozen=True, slots=True)
class Token:
    """One output token; ``text`` is empty for control tokens."""

    kind: Kind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """One choice, complete: what the engine would generate if nothing stopped it."""

    tokens: tuple[Token, ...]
    finish: Literal["stop", "length", "abort"]
    call: str | None = None
    """Name of the tool called, when the output is a call."""

    def text(self, kind: Kind) -> str:
        """Return the text of one kind."""
        return "".join(token.text for token in self.tokens if token.kind == kind)

    def count(self, kind: Kind) -> int:
        """Return the number of tokens of one kind."""
        return sum(token.kind == kind for token in self.tokens)

    @property
    def called(self) -> bool:
        """Whether the call's header was generated before the output ended."""
        return any(token.kind == "call" for token in self.tokens)


_CONTROL = Token("control")
_ANALYSIS = (_CONTROL,) * 3  # <|channel|> analysis <|message|>
_FINAL = (_CONTROL,) * 6  # <|end|> <|start|> assistant <|channel|> final <|message|>
_CALL = (*(_CONTROL,) * 8, Token("call"))  # the same with a recipient, whose last token opens the call
_STOP = (_CONTROL,)  # <|return|> or <|call|>

_FILLER = tuple("we weigh what is asked against what is known and check each step before we answer".split())  # noqa: SIM905  prose reads better


def generate(job: Job, settings: SimulatedEngine, *, model: str, choice: int = 0) -> Generation:
    """Return what the model says to ``job``; the same job and choice always give the same."""
    rng = _rng(job, model, choice)
    word = _topic(job, rng)
    reasoning = _reasoning(job, settings, word, rng)
    tool = _tool(job)
    if tool is not None:
        body = _pieces(json.dumps(example(tool.parameters, word)), "call")
        return _cut(job, (*_ANALYSIS, *reasoning, *_CALL, *body, *_STOP), call=tool.name)
    if job.schema is not None:
        body = _pieces(json.dumps(example(job.schema, word)), "answer")
    else:
        body = _answer(job, settings, word, model, rng)
    return _cut(job, (*_ANALYSIS, *reasoning, *_FINAL, *body, *_STOP))


def _cut(job: Job, tokens: tuple[Token, ...], call: str | None = None) -> Generation:
    whole = len(tokens) <= job.max_tokens
    return Generation(tokens[: job.max_tokens], "stop" if whole else "length", call)


def _rng(job: Job, model: str, choice: int) -> random.Random:
    key = [model, job.effort, job.seed, choice, [[turn.role, turn.text] for turn in job.turns]]
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return random.Random(digest)  # noqa: S311  repeatable text, not a secret


def _topic(job: Job, rng: random.Random) -> str:
    source = job.turns[-1].text if job.answers_a_tool else job.last_user_text
    words = [word[:MAX_WORD] for word in re.findall(r"\w+", source)]
    candidates = [word for word in words if len(word) > 4] or words
    return rng.choice(candidates) if candidates else "nothing"


def _tool(job: Job) -> Tool | None:
    """Return the tool that the model calls, or None when it answers.

    A schema wins over tools unless a call is demanded, as in vLLM's grammar.
    """
    if not job.tools or job.tool_choice == "none":
        return None
    if job.named:
        return next(tool for tool in job.tools if tool.name == job.tool_choice)
    if job.tool_choice == "auto" and (job.answers_a_tool or job.schema is not None):
        return None
    return next((tool for tool in job.tools if tool.name in job.last_user_text), job.tools[0])


def _length(mean: int, rng: random.Random) -> int:
    return max(1, round(mean * rng.uniform(1 - SPREAD, 1 + SPREAD)))


def _reasoning(job: Job, settings: SimulatedEngine, word: str, rng: random.Random) -> tuple[Token, ...]:
    wanted = _length(settings.reasoning_tokens[job.effort], rng)
    opening = f"The user asks about {word}; effort is {job.effort}, so".split()
    words = tuple(islice(_endless(opening, word, rng), wanted))
    return _spaced(words, "reasoning")[: job.reasoning_budget]


def _answer(
    job: Job, settings: SimulatedEngine, word: str, model: str, rng: random.Random
) -> tuple[Token, ...]:
    opening = f"{word}: this is the simulated {model} at {job.effort} effort;".split()
    return _spaced(
        tuple(islice(_endless(opening, word, rng), _length(settings.answer_tokens, rng))), "answer"
    )


def _endless(opening: list[str], word: str, rng: random.Random) -> Iterator[str]:
    yield from opening
    while True:
        yield rng.choice((*_FILLER, word))


def _spaced(words: tuple[str, ...], kind: Kind) -> tuple[Token, ...]:
    return tuple(Token(kind, word if index == 0 else f" {word}") for index, word in enumerate(words))


def _pieces(text: str, kind: Kind) -> tuple[Token, ...]:
    """Split JSON text as a tokenizer would: words with their leading blank, and punctuation."""
    return tuple(Token(kind, piece) for piece in re.findall(r"\s?\w+|\s?[^\w\s]+|\s+", text))
