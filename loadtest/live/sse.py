"""Reads the events of a streamed answer as a client does: what each shows, and what it all came to. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

Seen = Literal["", "begun", "reasoning", "answer", "call", "end", "error"]
"""What an event shows: nothing, that generation has begun, text of one kind, the end, or a failure."""

SEPARATOR = b"\n\n"
_DATA = b"data:"


@dataclass(slots=True)
class Call:
    """A function call of the model."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """What a stream has told so far."""

    text: list[str] = field(default_factory=list)
    """The answer's text, without reasoning."""
    call: Call | None = None
    error: str = ""
    """Code of an error event."""
    complete: bool = False
    """Whether the stream said that it is whole."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    fingerprint: str = ""


class Reader(Protocol):
    """Reads one stream."""

    answer: Answer

    def event(self, raw: bytes) -> Seen:
        """Read one whole event. Raises ``ValueError`` for one that holds no JSON."""


def payload(raw: bytes) -> bytes:
    """Return the data of an event; empty for a comment."""
    if raw.startswith(_DATA):
        return raw[5:].strip()
    start = raw.find(b"\n" + _DATA)
    return raw[start + 6 :].strip() if start >= 0 else b""


class ChatReader:
    """A chat completion's stream of one choice."""

    def __init__(self) -> None:
        self.answer = Answer()
        self._finished = False

    def event(self, raw: bytes) -> Seen:
        """Read one whole event. Raises ``ValueError`` for one that holds no JSON."""
        data = payload(raw)
        if not data:
            return ""
        if data == b"[DONE]":
            self.answer.complete = self._finished and not self.answer.error
            return "end"
        chunk = orjson.loads(data)
        if "error" in chunk:
            self.answer.error = _code(chunk["error"])
            return "error"
        self.answer.fingerprint = chunk.get("system_fingerprint") or self.answer.fingerprint
        if usage := chunk.get("usage"):
            self._use(usage)
        return self._choice(chunk["choices"][0]) if chunk.get("choices") else ""

    def _choice(self, choice: dict[str, Any]) -> Seen:
        delta = choice.get("delta") or {}
        self._finished = self._finished or choice.get("finish_reason") is not None
        if text := delta.get("content"):
            self.answer.text.append(text)
            return "answer"
        if delta.get("reasoning") or delta.get("reasoning_content"):
            return "reasoning"
        if calls := delta.get("tool_calls"):
            self._call(calls[0])
            return "call"
        return "begun" if "role" in delta else ""

    def _call(self, part: dict[str, Any]) -> None:
        call = self.answer.call = self.answer.call or Call()
        function = part.get("function") or {}
        call.id = part.get("id") or call.id
        call.name = function.get("name") or call.name
        call.arguments += function.get("arguments") or ""

    def _use(self, usage: dict[str, Any]) -> None:
        answer, details = self.answer, usage.get("completion_tokens_details") or {}
        answer.prompt_tokens, answer.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        answer.reasoning_tokens = details.get("reasoning_tokens") or 0


_DELTAS: dict[str, Seen] = {
    "response.output_text.delta": "answer",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "call",
}


class ResponsesReader:
    """A Responses stream."""

    def __init__(self) -> None:
        self.answer = Answer()

    def event(self, raw: bytes) -> Seen:
        """Read one whole event. Raises ``ValueError`` for one that holds no JSON."""
        data = payload(raw)
        if not data or data == b"[DONE]":
            return ""
        event = orjson.loads(data)
        kind = event.get("type", "")
        if seen := _DELTAS.get(kind):
            if seen == "answer":
                self.answer.text.append(event["delta"])
            return seen
        if kind in ("response.completed", "response.incomplete"):
            return self._end(event["response"])
        if kind in ("error", "response.failed") or "error" in event:
            response = event.get("response") or {}
            self.answer.error = _code(event.get("error") or response.get("error") or event)
            return "error"
        # what comes before the first output item says that the request is accepted, not that it runs
        return "begun" if kind == "response.output_item.added" else ""

    def _end(self, response: dict[str, Any]) -> Seen:
        answer, usage = self.answer, response.get("usage") or {}
        answer.complete = True
        answer.prompt_tokens = usage.get("input_tokens") or 0
        answer.output_tokens = usage.get("output_tokens") or 0
        answer.reasoning_tokens = (usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0
        return "end"


def _code(error: Any) -> str:
    """Return an error's code, or its type, never its words: they may hold what the model wrote."""
    if not isinstance(error, dict):
        return "error"
    return str(error.get("code") or error.get("type") or "error")


def refusal(body: bytes, status: int) -> str:
    """Return what a whole answer of an error status says: its code, or the status."""
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"status {status}"
    return _code(read["error"]) if isinstance(read, dict) and "error" in read else f"status {status}"
