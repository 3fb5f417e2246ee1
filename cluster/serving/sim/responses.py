"""``/v1/responses`` as vLLM 0.29 writes it, with the reasoning left out where the replica hides it."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.serving.sim.errors import EngineError
from cluster.serving.sim.job import Job
from cluster.serving.sim.text import Generation, Kind, Token
from cluster.serving.sim.wire import Envelope, Tally, data, fresh

_TOOL_KEYS = ("allowed_callers", "async", "defer_loading", "description", "output_schema")
_REASONING_KEYS = ("context", "effort", "generate_summary", "mode", "summary")


def answer(job: Job, generations: Sequence[Generation], tally: Tally, envelope: Envelope) -> dict[str, Any]:
    """Return the body of a whole answer; a Responses request has one choice."""
    (generation,) = generations
    output = _output(job, generation)
    status = _status(generation, bool(output))
    return _response(job, envelope, status=status, output=output, usage=_usage(tally))


def _status(generation: Generation, output: bool) -> str:
    """Return the status as vLLM says it; hidden reasoning is an output there."""
    if generation.finish == "abort" and (output or generation.count("reasoning")):
        return "cancelled"
    return "completed" if generation.finish == "stop" and output else "incomplete"


def _response(
    job: Job, envelope: Envelope, *, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
) -> dict[str, Any]:
    body = job.body
    incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
    return {
        "id": envelope.request_id,
        "created_at": envelope.created,
        "incomplete_details": incomplete,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "model": envelope.model,
        "object": "response",
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "temperature": _or(body.get("temperature"), 1.0),
        "tool_choice": body.get("tool_choice", "auto") if job.tools else "none",
        "tools": [_tool(tool) for tool in body.get("tools") or ()],
        "top_p": _or(body.get("top_p"), 1.0),
        "background": False,
        "max_output_tokens": job.max_tokens,
        "max_tool_calls": body.get("max_tool_calls"),
        "previous_response_id": None,
        "prompt": None,
        "reasoning": _reasoning(body.get("reasoning")),
        "service_tier": body.get("service_tier") or "auto",
        "status": status,
        "text": None if job.schema is not None else body.get("text"),
        "top_logprobs": None,
        "truncation": body.get("truncation") or "disabled",
        "usage": usage,
        "user": body.get("user"),
        "presence_penalty": _or(body.get("presence_penalty"), 0.0),
        "frequency_penalty": _or(body.get("frequency_penalty"), 0.0),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    named = {"name": tool.get("name"), "parameters": tool.get("parameters"), "strict": tool.get("strict")}
    return {**named, "type": "function", **{key: tool.get(key) for key in _TOOL_KEYS}}


def _reasoning(asked: Any) -> dict[str, Any] | None:
    return {key: asked.get(key) for key in _REASONING_KEYS} if isinstance(asked, dict) else None


def _usage(tally: Tally) -> dict[str, Any]:
    return {
        "input_tokens": tally.prompt,
        "input_tokens_details": {
            "cached_tokens": 0,
            "input_tokens_per_turn": [tally.prompt],
            "cached_tokens_per_turn": [0],
        },
        "output_tokens": tally.total,
        "output_tokens_details": {
            "reasoning_tokens": tally.reasoning,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [tally.total],
            "tool_output_tokens_per_turn": [0],
        },
        "total_tokens": tally.prompt + tally.total,
    }


def _output(job: Job, generation: Generation) -> list[dict[str, Any]]:
    items = []
    status = "completed" if generation.finish == "stop" else "incomplete"
    reasoning = generation.text("reasoning")
    if reasoning and job.include_reasoning:
        items.append(_reasoning_item(fresh("rs_"), reasoning, None))
    if generation.called:
        mark = fresh("")
        items.append(_call_item(generation, f"fc_{mark}", f"call_{mark}", generation.text("call"), status))
    elif generation.count("answer"):
        items.append(_message_item(fresh("msg_"), [_text_part(generation.text("answer"))], status))
    return items


def _reasoning_item(item_id: str, text: str | None, status: str | None) -> dict[str, Any]:
    content = None if text is None else [{"text": text, "type": "reasoning_text"}]
    return {
        "id": item_id,
        "summary": [],
        "type": "reasoning",
        "content": content,
        "encrypted_content": None,
        "status": status,
    }


def _message_item(item_id: str, content: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "content": content,
        "role": "assistant",
        "status": status,
        "type": "message",
        "phase": None,
    }


def _text_part(text: str, logprobs: list[Any] | None = None) -> dict[str, Any]:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _call_item(
    generation: Generation, item_id: str, call_id: str, arguments: str, status: str
) -> dict[str, Any]:
    return {
        "arguments": arguments,
        "call_id": call_id,
        "name": generation.call,
        "type": "function_call",
        "id": item_id,
        "async": None,
        "caller": None,
        "namespace": None,
        "status": status,
    }


class ResponsesStream:
    """The SSE events of one streamed Responses answer.

    Ids in the final object differ from the streamed ones, and a cut item has no ``done`` events: vLLM's ways.
    """

    def __init__(self, job: Job, generations: Sequence[Generation], tally: Tally, envelope: Envelope) -> None:
        self._job, self._tally, self._envelope = job, tally, envelope
        (self._generation,) = generations
        self._sequence = 0
        self._index = 0
        self._open: Kind | None = None
        self._item_id = self._call_id = ""

    def opened(self) -> bytes:
        """Return the first two events, which vLLM sends before the request has a slot."""
        response = _response(self._job, self._envelope, status="in_progress", output=[], usage=None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def started(self) -> bytes:
        """Return nothing: the first token has no event of its own."""
        return b""

    def token(self, choice: int, token: Token, *, last: bool) -> bytes:  # noqa: ARG002  one choice only
        """Return the events of one token, the opening and closing of its item among them."""
        hidden = token.kind == "reasoning" and not self._job.include_reasoning
        ends_item = token.kind == "control" or (last and self._generation.finish != "stop")
        events: list[bytes] = []
        if token.text and not hidden:
            events += self._begin(token.kind) if self._open != token.kind else []
            events += [self._delta(token)]
        if ends_item and self._open is not None:
            events += self._end()
        return b"".join(events)

    def _begin(self, kind: Kind) -> Iterator[bytes]:
        self._open = kind
        match kind:
            case "reasoning":
                self._item_id = fresh("msg_")
                yield self._item("added", {**_reasoning_item(self._item_id, None, "in_progress")})
                yield self._part("response.reasoning_part.added", {"text": "", "type": "reasoning_text"})
            case "call":
                self._item_id, self._call_id = fresh("fc_"), fresh("call_")
                item = _call_item(self._generation, self._item_id, self._call_id, "", "in_progress")
                yield self._item("added", item)
            case _:
                self._item_id = fresh("msg_")
                yield self._item("added", _message_item(self._item_id, [], "in_progress"))
                yield self._part("response.content_part.added", _text_part("", []))

    def _delta(self, token: Token) -> bytes:
        match token.kind:
            case "reasoning":
                return self._in_part("response.reasoning_text.delta", delta=token.text)
            case "call":
                return self._in_item("response.function_call_arguments.delta", delta=token.text)
            case _:
                return self._in_part("response.output_text.delta", delta=token.text, logprobs=[])

    def _end(self) -> Iterator[bytes]:
        text = self._generation.text(self._open or "answer")
        match self._open:
            case "reasoning":
                yield self._in_part("response.reasoning_text.done", text=text)
                yield self._part("response.reasoning_part.done", {"text": text, "type": "reasoning_text"})
                yield self._item("done", _reasoning_item(self._item_id, text, "completed"))
            case "call":
                name = self._generation.call
                yield self._in_item("response.function_call_arguments.done", arguments=text, name=name)
                item = _call_item(self._generation, self._item_id, self._call_id, text, "completed")
                stray = {"output_index": self._index, "sequence_number": -1}
                yield self._item("done", {**item, **stray})
            case _:
                yield self._in_part("response.output_text.done", text=text, logprobs=[])
                yield self._part("response.content_part.done", _text_part(text))
                yield self._item("done", _message_item(self._item_id, [_text_part(text)], "completed"))
        self._open = None
        self._index += 1

    def ended(self) -> bytes:
        """Return the last event, with the whole response."""
        response = answer(self._job, [self._generation], self._tally, self._envelope)
        return self._event("response.completed", response=response)

    def failed(self, error: EngineError) -> bytes:  # noqa: ARG002  vLLM says nothing here
        """Return nothing: vLLM cuts the connection without a last event."""
        return b""

    def _item(self, what: str, item: dict[str, Any]) -> bytes:
        return self._event(f"response.output_item.{what}", item=item, output_index=self._index)

    def _part(self, kind: str, part: dict[str, Any]) -> bytes:
        return self._in_part(kind, part=part)

    def _in_part(self, kind: str, **fields: Any) -> bytes:
        return self._in_item(kind, content_index=0, **fields)

    def _in_item(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._item_id, output_index=self._index, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = {**fields, "sequence_number": self._sequence, "type": kind}
        self._sequence += 1
        return b"event: %b\n%b" % (kind.encode(), data(event))
