"""A chat stream on its way to the client: what passes, what is dropped, what is held back.

Most events are one piece of content and pass as the bytes they are: a few ``find`` calls tell them from the
others. All of one stream differ in their text alone, so what stands around it is looked at once.
"""

from typing import Any

from cluster.gateway.answers import chat_usage
from cluster.gateway.asked import Asked
from cluster.gateway.endings import ChatEnds
from cluster.gateway.engine_errors import judge_error
from cluster.gateway.http_errors import RequestFailed
from cluster.gateway.openai_form import clean_chunk, trim_chunk
from cluster.gateway.sse import DONE, data_event, parse_data
from cluster.gateway.stream_filter import StreamFilter

_CONTENT = b'"content":"'
_REASONING_KEYS = ("reasoning", "reasoning_content")


class ChatStream(StreamFilter):
    """Filters one chat stream."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked, self._ends = asked, ChatEnds(asked)
        self._tier_told = False
        self._before, self._after, self._end = b"", b"", b""
        """What stood around the text of the last plain event, and its end as the client gets it."""

    def known(self, chunk: bytes) -> bytes:
        """Return what the client sees of a chunk that is one plain event like the last, else nothing."""
        before, after = self._before, self._after
        if not (before and chunk.startswith(before) and chunk.endswith(after)):
            return b""
        text = chunk[len(before) : -len(after)]
        if not text or b'"' in text or b"<" in text or b"\\u" in text or self._suspect or self._held:
            return b""
        return b"%b%b%b" % (before, text, self._end)

    def failure_event(self, failure: RequestFailed) -> bytes:
        """Return the event that ends a stream that has begun and cannot go on."""
        return data_event({"error": failure.error})

    def _event(self, event: bytes) -> None:
        self.started = True
        trimmed = trim_chunk(event)
        if trimmed == DONE:
            self._ends.close()
            self._emit(trimmed)
            self.done = True
        elif self._plain(trimmed):
            self._learn(event, trimmed)
            self._emit(trimmed)
        else:
            self._inspect(trimmed)

    def _learn(self, event: bytes, trimmed: bytes) -> None:
        """Note what stands around the text of a plain event, if it is one."""
        start = event.find(_CONTENT) + len(_CONTENT)
        if start < len(_CONTENT):
            return
        self.answered = True
        end = event.find(b'"', start)
        self._before, self._after = event[:start], event[end:]
        self._end = trimmed[end:]

    def _plain(self, event: bytes) -> bool:
        """Whether ``event`` is content of the answer and nothing else.

        In JSON a quote inside a string is escaped, so that no text can look like one of these keys.
        """
        return not (
            self._suspect
            or b"<" in event
            or b"\\u" in event  # which may be any character
            or b'"content":""' in event
            or b'"reasoning' in event
            or b'"finish_reason":"' in event
            or b'"role"' in event
            or b'"tool_calls"' in event
            or b'"usage":' in event
            or b'"token_ids"' in event
            or b'"error"' in event
            or not event.startswith(b'data: {"')
        )

    def _inspect(self, event: bytes) -> None:
        data = parse_data(event)
        if data.get("error"):
            raise judge_error(data["error"])
        if data.get("usage"):
            self.usage = chat_usage(data["usage"])
            for cut in self._ends.decide(self.usage):
                self._pass(cut, data_event(cut))
        if not self._ends.take(data, answered=self.answered or _answers(data)):
            self._pass(data, event)

    def _pass(self, data: dict[str, Any], event: bytes) -> None:
        """Pass what the client may see of ``data``, which is what ``event`` holds."""
        changed = self._drop_usage(data) | clean_chunk(data)
        choices = data.get("choices") or []
        if not choices:
            if "usage" in data:
                self._emit(data_event(data) if changed else event)
            return
        says = False
        for choice in choices:
            delta = choice.get("delta") or {}
            changed |= self._hide_reasoning(delta)
            says |= self._read(choice, delta)
        if changed and not says and not any(choice.get("delta") for choice in choices):
            return
        if not self._tier_told:  # once is enough: clients keep what any chunk tells
            data["service_tier"], self._tier_told, changed = self._asked.tier, True, True
        self._emit(data_event(data) if changed else event, hold=self._suspect or not says)

    def _drop_usage(self, data: dict[str, Any]) -> bool:
        """Remove the usage from what a client gets that did not ask for it; return whether it was there."""
        if "usage" in data and not self._asked.include_usage:
            del data["usage"]
            return True
        return False

    def _hide_reasoning(self, delta: dict[str, Any]) -> bool:
        if self._asked.see_reasoning:
            return False
        return [delta.pop(key) for key in _REASONING_KEYS if key in delta] != []

    def _read(self, choice: dict[str, Any], delta: dict[str, Any]) -> bool:
        """Check one choice's text; return whether the event says anything yet."""
        index = choice.get("index", 0)
        texts = [(f"{index}.{key}", delta.get(key)) for key in ("content", *_REASONING_KEYS)]
        calls = delta.get("tool_calls") or []
        for call in calls:
            function = call.get("function") or {}
            texts += [
                (f"{index}.{call.get('index', 0)}.{key}", function.get(key)) for key in ("name", "arguments")
            ]
        for channel, text in texts:
            if text:
                self._suspect = self._guard.feed(channel, text)
        self.answered = self.answered or bool(delta.get("content") or calls)
        finish = choice.get("finish_reason")
        if finish:  # nothing follows that could complete a token
            self._suspect = self._guard.end(f"{index}.")
        return bool(finish or calls or any(text for _, text in texts))


def _answers(data: dict[str, Any]) -> bool:
    """Whether a chunk holds content or a call."""
    deltas = [choice.get("delta") or {} for choice in data.get("choices") or ()]
    return any(delta.get("content") or delta.get("tool_calls") for delta in deltas)
