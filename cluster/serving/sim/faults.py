"""Faults that a test can order with one word in the last user message, where the app allows it.

A body field or a header would not pass the gateway. A word followed by ``-once`` strikes the first attempt
only: the gateway's request id ends in the number of the attempt.
"""

import re
from dataclasses import replace
from typing import Literal, cast, get_args

from cluster.serving.sim.text import Generation, Token

Fault = Literal["die", "reset", "hang", "stall", "cut", "harmony", "garbage", "control", "empty", "busy"]
"""``die``: 500 before the first byte. ``reset``: the socket is aborted before it. ``hang``: no byte ever.
``stall``: silence in the middle of the answer. ``cut``: the connection ends there without a last event.
``harmony``: a parse fault there: 500 when whole, an error event in a chat stream, a cut Responses stream.
``garbage``: events that are not JSON, or such a body. ``control``: Harmony's control tokens in the answer.
``empty``: reasoning, then neither answer nor call. ``busy``: the queue fills just as the request reaches it:
503 when whole, and in a stream, which has its 200 by then, an error as the first event."""

WORDS: dict[str, Fault] = {f"fault-{name}": name for name in get_args(Fault)}
"""The words that order each fault."""

HARMONY_MESSAGE = (
    'unexpected tokens remaining in message header: Some("analysis: the private chain of thought leaks here")'
)
"""vLLM's error text repeats what the model wrote, the chain of thought included."""

DEAD_MESSAGE = "EngineCore encountered an issue. See stack trace (above) for the root cause."

GARBAGE_EVENT = b"data: {not json \xff\n\n"
GARBAGE_BODY = b"{not json"

LEAK = "<|channel|>analysis<|message|>private thoughts<|end|>"

_PATTERN = re.compile(r"\bfault-(" + "|".join(get_args(Fault)) + r")(-once)?\b")
_ATTEMPT = re.compile(r"-(\d+)$")


def ordered(text: str, request_id: str) -> Fault | None:
    """Return the fault that ``text`` orders for this attempt, or None."""
    found = _PATTERN.search(text)
    if found is None or (found[2] and _attempt(request_id) > 1):
        return None
    return cast(Fault, found[1])


def _attempt(request_id: str) -> int:
    found = _ATTEMPT.search(request_id)
    return int(found[1]) if found else 1


def altered(generation: Generation, fault: Fault | None) -> Generation:
    """Return what the model says under a fault that changes its words."""
    tokens = generation.tokens
    if fault == "empty":
        tokens = tuple(token for token in tokens if token.kind not in ("answer", "call"))
        return replace(generation, tokens=tokens, call=None)
    if fault == "control":
        at = middle(generation)
        return replace(generation, tokens=(*tokens[:at], Token("answer", LEAK), *tokens[at:]))
    return generation


def middle(generation: Generation) -> int:
    """Return the index of the token in the middle of the answer or call; of all, when there is neither."""
    visible = [index for index, token in enumerate(generation.tokens) if token.kind in ("answer", "call")]
    indexes = visible or list(range(len(generation.tokens)))
    return indexes[len(indexes) // 2]
