"""What vLLM 0.29 lacks for gpt-oss, beside the reasoning parser: five replaced functions.

- Chat reports reasoning tokens as 0, Responses adds tool calls to them: both report the true count.
- A malformed Harmony message is a 500, a broken stream, or raw Harmony text in the answer: it is dropped, and
  parsing goes on at the next message.
- ``thinking_token_budget`` is refused on chat and ignored on Responses: both honour it.

Importing the module applies all of it to the process. vLLM has no hook for most of it, so its internals are
replaced here and nowhere else; the module refuses a vLLM of another version.
"""

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import vllm
from openai_harmony import HarmonyError, Message, Role, StreamableParser  # type: ignore[import-untyped]
from ray.util.metrics import Counter
from vllm.entrypoints.openai.parser.harmony_utils import get_encoding
from vllm.entrypoints.openai.responses import serving as responses_serving
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.exceptions import VLLMValidationError
from vllm.parser.harmony import ChunkResult, HarmonyParser, Segment
from vllm.sampling_params import SamplingParams

from cluster.serving import reasoning_parser
from cluster.serving.harmony_tokens import FIRST_SPECIAL, ReasoningCounter

VLLM_VERSION = "0.29."
"""The vLLM whose internals are replaced."""

log = logging.getLogger(__name__)
_control_token = re.compile(r"<\|[a-z_0-9]+\|>")
_faults = Counter(
    "gptoss_engine_harmony_faults",
    description="Malformed Harmony messages that were dropped, by where the fault lay.",
    tag_keys=("kind",),
)


def _count_fault(kind: str) -> None:
    log.warning("a malformed Harmony message was dropped: %s", kind)
    _faults.inc(tags={"kind": kind})


class _Repair:
    """State that one `HarmonyParser` needs beside its own."""

    def __init__(self) -> None:
        self.counter = ReasoningCounter()
        self.counted = 0
        """Reasoning tokens of the answer that `_flush` ended."""
        self.resyncing = False
        """Dropping tokens until the next message starts."""
        self.special_in_body = False
        """The message at hand carries control tokens as text."""


def _repair(parser: HarmonyParser) -> _Repair:
    state: _Repair | None = parser.__dict__.get("_repair")
    if state is None:
        state = parser.__dict__["_repair"] = _Repair()
    return state


def _process_chunk(parser: HarmonyParser, token_ids: Sequence[int]) -> ChunkResult:
    state = _repair(parser)
    segments = [segment for token in token_ids if (segment := _process(parser, state, token))]
    return ChunkResult(segments, state.counter.feed(token_ids))


def _process(parser: HarmonyParser, state: _Repair, token: int) -> Segment | None:
    try:
        parser._harmony_parser.process(token)
    except HarmonyError as error:
        _resynchronise(parser, state, error)
        return None
    state.resyncing = False
    live = parser._harmony_parser
    channel = live.current_channel
    recipient = _recipient(channel, parser._normalize_recipient(live.current_recipient))
    delta = live.last_content_delta or ""
    if token >= FIRST_SPECIAL and delta:
        delta, state.special_in_body = "", True
    return Segment(channel, recipient, delta, _completed(parser, state))


def _completed(parser: HarmonyParser, state: _Repair) -> Message | None:
    message = parser._poll_completed_message()
    if message is None:
        return None
    message.recipient = _recipient(message.channel, message.recipient)
    if state.special_in_body:
        for content in message.content:
            content.text = _control_token.sub("", content.text)
        state.special_in_body = False
    return message


def _recipient(channel: str | None, recipient: str | None) -> str | None:
    """Return the recipient, unless it is a stray word of a header, which Harmony's parser takes for one.

    Only functions are ever addressed on these channels, as no built-in tool is served.
    """
    stray = channel in ("analysis", "final") and not (recipient or "").startswith("functions.")
    return None if stray else recipient


def _resynchronise(parser: HarmonyParser, state: _Repair, error: HarmonyError) -> None:
    """Drop the token and, when its message was begun, the message."""
    between_messages = "expecting start token" in str(error)
    if not state.resyncing:
        _count_fault("between_messages" if between_messages else "header")
    state.resyncing = True
    if not between_messages:
        # A parser that failed inside a header stays there; a new one waits for the next message.
        encoding = get_encoding()  # type: ignore[no-untyped-call]
        parser._parser = StreamableParser(encoding, role=None)
        parser._num_processed_messages = 0


def _flush(parser: HarmonyParser) -> list[Segment]:
    state = _repair(parser)
    message = None
    try:
        parser._harmony_parser.process_eos()
        message = _completed(parser, state)
    except HarmonyError:
        # The answer ended inside a header, as the output limit can make it; stock vLLM returns the raw text.
        if not state.resyncing:
            _count_fault("unfinished_header")
    parser._parser = None
    parser._num_processed_messages = 0
    fresh = parser.__dict__["_repair"] = _Repair()
    fresh.counted = state.counter.reasoning
    return [] if message is None else [Segment(message.channel, message.recipient, "", message)]


def _count_reasoning_tokens(parser: HarmonyParser, token_ids: Sequence[int]) -> int:
    """Return the count without scanning: vLLM asks with every id so far, at every token."""
    del token_ids
    state = _repair(parser)
    return state.counter.reasoning if state.counter.total else state.counted


def _honour_budget(original: Callable[..., SamplingParams]) -> Callable[..., SamplingParams]:
    def to_sampling_params(request: ResponsesRequest, *args: Any, **kwargs: Any) -> SamplingParams:
        params = original(request, *args, **kwargs)
        params.thinking_token_budget = _budget((request.model_extra or {}).get("thinking_token_budget"))
        return params

    return to_sampling_params


def _budget(value: object) -> int | None:
    """Return a budget as chat understands it: None or -1 for none."""
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise VLLMValidationError(
            "`thinking_token_budget` must be a non-negative integer or -1 for unlimited.",
            parameter="thinking_token_budget",
        )
    return value


def _drop_unknown_items(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def harmony_to_response_output(message: Message, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            return original(message, *args, **kwargs)
        except ValueError:  # "Unknown channel: ...", which vLLM answers with a 400 as if the client had erred
            _count_fault("channel")
            return []

    return harmony_to_response_output


def _apply() -> None:
    if not vllm.__version__.startswith(VLLM_VERSION):
        raise RuntimeError(
            f"{__name__} replaces internals of vLLM {VLLM_VERSION}x, not of {vllm.__version__}"
        )
    _replace(HarmonyParser, "process_chunk", lambda _: _process_chunk)
    _replace(HarmonyParser, "flush", lambda _: _flush)
    _replace(HarmonyParser, "count_reasoning_tokens", lambda _: _count_reasoning_tokens)
    _replace(ResponsesRequest, "to_sampling_params", _honour_budget)
    _replace(responses_serving, "harmony_to_response_output", _drop_unknown_items)


def _replace(owner: object, name: str, wrap: Callable[[Any], Callable[..., Any]]) -> None:
    setattr(owner, name, wrap(getattr(owner, name)))


def self_test() -> None:
    """Raise `RuntimeError` unless the Harmony vocabulary is the real one; a wrong one fails silently."""
    encoding = get_encoding()  # type: ignore[no-untyped-call]
    opening = reasoning_parser.START
    got = encoding.encode(opening, allowed_special="all")
    if got != [200005, 35644, 200008]:
        raise RuntimeError(f"the Harmony vocabulary is wrong: {opening!r} encodes to {got}")
    parser = StreamableParser(encoding, role=Role.ASSISTANT)
    for token in encoding.encode(f"{opening}a{reasoning_parser.END}", allowed_special="all"):
        parser.process(token)
    if [message.channel for message in parser.messages] != ["analysis"]:
        raise RuntimeError("the Harmony parser does not read a well-formed message")


_apply()
