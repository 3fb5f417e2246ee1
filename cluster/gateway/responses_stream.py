"""A Responses stream on its way to the client.

vLLM's stream needs mending throughout, so every event is parsed: hidden reasoning leaves gaps in
``output_index`` and ``sequence_number``; the final object carries other ids than the items that were
streamed; a truncated answer ends as ``response.completed``.
"""

from typing import Any

from cluster.gateway import openai_form
from cluster.gateway.answers import refuse_tokens_in_item, response_object, response_usage
from cluster.gateway.asked import Asked
from cluster.gateway.endings import refuse_unfinished_response
from cluster.gateway.engine_errors import judge_error
from cluster.gateway.harmony import refuse_control_tokens, refuse_unknown_item
from cluster.gateway.http_errors import RequestFailed
from cluster.gateway.sse import named_event, parse_data
from cluster.gateway.stream_filter import StreamFilter

_PREAMBLE = frozenset({"response.created", "response.in_progress", "response.queued"})
_SAYING = frozenset({"response.output_text.delta", "response.function_call_arguments.delta"})
_FINAL = frozenset({"response.completed", "response.incomplete"})


class ResponsesStream(StreamFilter):
    """Filters one Responses stream; ``request_id`` and ``model`` name it if it fails before it began."""

    def __init__(self, asked: Asked, *, request_id: str, model: str, created_at: int) -> None:
        super().__init__()
        self._asked = asked
        self._sequence = 0
        self._indexes: dict[int, int] = {}
        self._hidden: set[int] = set()
        self._items: list[dict[str, Any]] = []
        self._ended: dict[str, Any] | None = None
        """The event that ends the last item, until what follows tells how it ended."""
        self._response: dict[str, Any] = {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": created_at,
            "model": model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }

    def failure_event(self, failure: RequestFailed) -> bytes:
        """Return the event that ends a stream that has begun and cannot go on."""
        error = failure.error
        response = self._response | {
            "status": "failed",
            "error": {"code": error["code"] or error["type"], "message": error["message"]},
        }
        return named_event(
            {"type": "response.failed", "sequence_number": self._sequence, "response": response}
        )

    def _event(self, event: bytes) -> None:
        data = parse_data(event)
        kind = data.get("type") or ""
        if data.get("error") or kind in ("error", "response.failed"):
            raise judge_error(data.get("error") or (data.get("response") or {}).get("error") or data)
        if kind in _PREAMBLE:
            self._response = data["response"] = response_object(data["response"], self._asked)
            self._send(data, hold=True)
            return
        self.started = True
        if kind in _FINAL:
            self._finish(data)
        elif not self._is_hidden(data, kind):
            self._item(data, kind)

    def _is_hidden(self, data: dict[str, Any], kind: str) -> bool:
        if self._asked.see_reasoning:
            return False
        index = data.get("output_index")
        if (data.get("item") or {}).get("type") == "reasoning" or kind.startswith("response.reasoning"):
            if index is not None:
                self._hidden.add(index)
            return True
        return index in self._hidden

    def _item(self, data: dict[str, Any], kind: str) -> None:
        openai_form.clean_event(data)
        if "output_index" in data:
            index = data["output_index"]
            data["output_index"] = self._indexes.setdefault(index, len(self._indexes))
        if kind == "response.output_item.added":
            refuse_unknown_item(data["item"], self._asked.tools)
            self._items.append(data["item"])
        self._check(data, kind)
        self._end_item()
        if kind == "response.output_item.done":
            self._ended = data
        else:
            self._send(data, hold=self._suspect)

    def _end_item(self, final: list[dict[str, Any]] | None = None) -> None:
        """Send the end of the last item, with its status in the ``final`` output if that is known.

        VLLM calls every streamed item completed, also one that the limit cut.
        """
        if self._ended is None:
            return
        item = self._ended["item"]
        for known in final or ():
            if known.get("id") == item.get("id") and known.get("status"):
                item["status"] = known["status"]
        self._send(self._ended)
        self._ended = None

    def _check(self, data: dict[str, Any], kind: str) -> None:
        item, delta = data.get("item") or {}, data.get("delta")
        if isinstance(delta, str):
            self._suspect = self._guard.feed(str(data.get("item_id")), delta)
        elif kind.endswith(".done"):  # the text is whole: nothing follows that could complete a token
            self._suspect = self._guard.end(str(data.get("item_id") or item.get("id")))
        refuse_tokens_in_item(item)
        for text in ((data.get("part") or {}).get("text"), data.get("text"), data.get("arguments")):
            refuse_control_tokens(text or "")
        said = bool(delta) and kind in _SAYING
        self.answered = self.answered or said or item.get("type") == "function_call"

    def _finish(self, data: dict[str, Any]) -> None:
        if data["response"].get("usage"):
            self.usage = response_usage(data["response"]["usage"])
        response = response_object(data["response"], self._asked)
        refuse_unfinished_response(response, says=self.answered)
        self._name_as_streamed(response["output"])
        self._end_item(response["output"])
        kind = "response.incomplete" if response.get("status") == "incomplete" else "response.completed"
        self._send(data | {"type": kind, "response": response})
        self.done = True

    def _name_as_streamed(self, output: list[dict[str, Any]]) -> None:
        """Give the final items the ids under which the client has seen them."""
        streamed = {id(item): item for item in self._items}
        for item in output:
            match = next((seen for seen in streamed.values() if seen.get("type") == item.get("type")), None)
            if match is None:
                continue
            del streamed[id(match)]
            item |= {key: match[key] for key in ("id", "call_id") if key in match and key in item}

    def _send(self, data: dict[str, Any], *, hold: bool = False) -> None:
        data["sequence_number"] = self._sequence
        self._sequence += 1
        self._emit(named_event(data), hold=hold)
