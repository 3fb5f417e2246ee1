"""Faults that a test can order with one word in the last user message, where the app allows it.

A body field or a header would not pass the gateway. A word followed by ``-at-`` and a place strikes there:
at the ``start``, before the first token; in the ``reasoning``, after its first; in the ``answer`` or call,
after its first; at the ``end``, before the last token. A word that then ends in ``-once`` strikes the first
attempt only: the gateway's request id ends in the number of the attempt.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from cluster.serving.sim.text import Generation, Token

Fault = Literal[
    "die", "reset", "hang", "stall", "cut", "finish", "abort",
    "harmony", "garbage", "control", "empty", "tool", "busy", "kill",
]  # fmt: skip
"""``die``: 500 before the first byte. ``reset``: the socket is aborted before it. ``hang``: no byte ever.
``stall``: silence in the middle of the answer. ``cut``: the connection ends there without a last event.
``finish``: the stream ends there like a complete one, but without a last event; a whole body is half one.
``abort``: the engine gives the request up there, as when it shuts down, and ends it as vLLM does.
``harmony``: a parse fault there: 500 when whole, an error event in a chat stream, a cut Responses stream.
``garbage``: events that are not JSON, or such a body. ``control``: Harmony's control tokens in the answer.
``empty``: reasoning, then neither answer nor call. ``tool``: a call of a tool that nobody offers. ``busy``:
the queue fills just as the request reaches it: 503 when whole, and in a stream, which has its 200 by then,
an error as the first event. ``kill``: the replica's whole process is killed there."""

Place = Literal["start", "reasoning", "answer", "end"]

HARMONY_MESSAGE = (
    'unexpected tokens remaining in message header: Some("analysis: the private chain of thought leaks here")'
)
"""vLLM's error text repeats what the model wrote, the chain of thought included."""

DEAD_MESSAGE = "EngineCore encountered an issue. See stack trace (above) for the root cause."

GARBAGE_EVENT = b"data: {not json \xff\n\n"
GARBAGE_BODY = b"{not json"

UNKNOWN_TOOL = "no_such_tool"

LEAK = "<|channel|>analysis<|message|>private thoughts<|end|>"

_PATTERN = re.compile(
    rf"\bfault-({'|'.join(get_args(Fault))})(?:-at-({'|'.join(get_args(Place))}))?(-once)?(?![\w-])"
)
_ATTEMPT = re.compile(r"-(\d+)$")


@dataclass(frozen=True, slots=True)
class Order:
    """A fault, and where it strikes; None: in the middle of the answer."""

    fault: Fault
    place: Place | None = None


def ordered(text: str, request_id: str) -> Order | None:
    """Return the fault that ``text`` orders for this attempt, or None."""
    found = _PATTERN.search(text)
    if found is None or (found[3] and _attempt(request_id) > 1):
        return None
    return Order(cast(Fault, found[1]), cast(Place | None, found[2]))


def _attempt(request_id: str) -> int:
    found = _ATTEMPT.search(request_id)
    return int(found[1]) if found else 1


def altered(generation: Generation, order: Order | None) -> Generation:
    """Return what the model says under a fault that changes its words."""
    if order is None:
        return generation
    tokens, at = generation.tokens, index(generation, order.place)
    match order.fault:
        case "empty":
            kept = tuple(token for token in tokens if token.kind not in ("answer", "call"))
            return replace(generation, tokens=kept, call=None)
        case "control":
            return replace(generation, tokens=(*tokens[:at], Token("answer", LEAK), *tokens[at:]))
        case "abort":
            return replace(generation, tokens=tokens[:at], finish="abort")
        case "tool":
            return replace(generation, tokens=_called(generation), call=UNKNOWN_TOOL)
    return generation


def index(generation: Generation, place: Place | None) -> int:
    """Return the index of the token that ``place`` is before."""
    tokens, visible = generation.tokens, _visible(generation)
    reasoning = [number for number, token in enumerate(tokens) if token.kind == "reasoning"]
    match place:
        case None:
            indexes = visible or list(range(len(tokens)))
            return indexes[len(indexes) // 2]
        case "start":
            return 0
        case "end":
            return len(tokens) - 1
    chosen = reasoning if place == "reasoning" else visible
    return chosen[0] + 1 if chosen else len(tokens) - 1


def _visible(generation: Generation) -> list[int]:
    return [number for number, token in enumerate(generation.tokens) if token.kind in ("answer", "call")]


def _called(generation: Generation) -> tuple[Token, ...]:
    """Return the tokens with a call in place of the answer."""
    tokens, first = generation.tokens, (_visible(generation) or [0])[0]
    if generation.called:
        return tokens
    rest = [replace(token, kind="call") if token.kind == "answer" else token for token in tokens[first:]]
    return (*tokens[:first], Token("call"), *rest)
