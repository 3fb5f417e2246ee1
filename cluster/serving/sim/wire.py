"""What both endpoints' renderers share: how events are written, ids, and the renderers' common face."""

import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from cluster.core.engine import StreamUsage
from cluster.serving.sim.errors import EngineError
from cluster.serving.sim.text import Token

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every part of one answer repeats."""

    request_id: str
    model: str
    created: int
    """Epoch seconds."""


class Stream(Protocol):
    """Writes one streamed answer; each method returns the bytes that are due, possibly none."""

    def opened(self) -> bytes:
        """Return what is sent while the request still waits for a slot."""

    def started(self) -> bytes:
        """Return what announces the first token."""

    def token(self, choice: int, token: Token, *, last: bool) -> bytes:
        """Return the events of one token; ``last`` is the choice's last one."""

    def ended(self) -> bytes:
        """Return what follows the last token of all choices."""

    def failed(self, error: EngineError) -> bytes:
        """Return the events of a fault inside the stream, which then ends."""


def data(value: Any) -> bytes:
    """Return one SSE data line with its blank line, in compact JSON as pydantic writes it."""
    return b"data: %b\n\n" % orjson.dumps(value)


def fresh(prefix: str) -> str:
    """Return a new id: ``prefix`` and 16 hex digits, as long as vLLM's."""
    return prefix + uuid.uuid4().hex[:16]


class Tally:
    """Tokens of one request so far, over all its choices."""

    def __init__(self, prompt: int) -> None:
        self.prompt, self.reasoning, self.total = prompt, 0, 0

    def add(self, token: Token) -> None:
        """Count one output token."""
        self.total += 1
        self.reasoning += token.kind == "reasoning"

    @property
    def usage(self) -> StreamUsage:
        """Return the counts, control tokens among the answer's."""
        return StreamUsage(self.prompt, self.reasoning, self.total - self.reasoning)
