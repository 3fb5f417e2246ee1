"""A body as the engine reads it: two endpoints in, one kind of job out.

Field checks follow vLLM's request models, as far as a request that the gateway lets through can meet them;
unknown fields are ignored, as vLLM does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cluster.core.effort import EFFORTS, Effort
from cluster.core.request import Endpoint
from cluster.serving.sim.bodies import ChatBody, NamedChoice, ResponsesBody, Sampling
from cluster.serving.sim.errors import EngineError, from_validation
from cluster.serving.sim.job import Job, Tool, Turn

DEFAULT_EFFORT: Effort = "medium"
"""What Harmony writes into the prompt when a request names no effort."""

SYSTEM_TOKENS = 68
"""Tokens of Harmony's system message, in every prompt."""

NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Context:
    """What the engine knows before it reads a request."""

    model: str
    max_model_len: int
    priority_header: str | None = None


def parse(endpoint: Endpoint, body: Any, context: Context) -> Job:
    """Read a decoded body. Raises `EngineError` as vLLM would answer it."""
    try:
        if endpoint == "chat":
            return _chat(ChatBody.model_validate(body), body, context)
        return _responses(ResponsesBody.model_validate(body), body, context)
    except ValidationError as error:
        raise from_validation(error) from None


def _chat(read: ChatBody, body: dict[str, Any], context: Context) -> Job:
    _check_model(read.model, context)
    turns = tuple(_chat_turn(message) for message in read.messages)
    tools = tuple(
        Tool(tool.function.name, tool.function.parameters or NO_PARAMETERS) for tool in read.tools or ()
    )
    limit = read.max_tokens if read.max_completion_tokens is None else read.max_completion_tokens
    choice = read.tool_choice
    named = choice.function.name if isinstance(choice, NamedChoice) else None
    prompt_tokens = _count(turns, tools)
    if prompt_tokens > context.max_model_len:
        raise EngineError(
            f"Input length ({prompt_tokens}) exceeds model's maximum "
            f"context length ({context.max_model_len})."
        )
    options = read.stream_options
    return Job(
        endpoint="chat",
        turns=turns,
        effort=_effort(read.reasoning_effort),
        prompt_tokens=prompt_tokens,
        max_tokens=_limit(limit, context.max_model_len - prompt_tokens),
        stream=bool(read.stream),
        include_usage=bool(options and options.include_usage),
        choices=_choices(read),
        tools=tools,
        tool_choice=named or str(choice or "none"),
        named=named is not None,
        schema=_chat_schema(read),
        body=body,
        **_sampling(read, context),
    )


def _responses(read: ResponsesBody, body: dict[str, Any], context: Context) -> Job:
    _check_model(read.model, context)
    _check_unsupported(read)
    turns = _input_turns(read)
    tools = tuple(
        Tool(tool.name, tool.parameters or NO_PARAMETERS)
        for tool in read.tools
        if tool.type == "function" and tool.name
    )
    form = read.text.format if read.text else None
    named = isinstance(read.tool_choice, dict)
    choice = read.tool_choice["name"] if isinstance(read.tool_choice, dict) else read.tool_choice
    prompt_tokens = _count(turns, tools)
    if prompt_tokens >= context.max_model_len:
        raise EngineError(
            f"The engine prompt length {prompt_tokens} exceeds the max_model_len {context.max_model_len}. "
            "Please reduce prompt.",
            kind="invalid_request_error",
            param="input",
        )
    return Job(
        endpoint="responses",
        turns=turns,
        effort=_effort(read.reasoning.effort if read.reasoning else None),
        prompt_tokens=prompt_tokens,
        max_tokens=_limit(read.max_output_tokens, context.max_model_len - prompt_tokens),
        stream=bool(read.stream),
        include_usage=True,
        choices=1,
        tools=tools,
        tool_choice=str(choice) if tools else "none",
        named=named,
        schema=_schema(form.type, form.json_schema) if form else None,
        body=body,
        **_sampling(read, context),
    )


def _check_model(model: str | None, context: Context) -> None:
    if model and model != context.model:
        raise EngineError(
            f"The model `{model}` does not exist.", status=404, kind="NotFoundError", param="model"
        )


def _check_unsupported(read: ResponsesBody) -> None:
    if read.background:
        raise EngineError(
            "This vLLM engine does not support `store=True` and "
            "therefore does not support the background mode.",
            kind="invalid_request_error",
            param="background",
        )
    if read.previous_response_id is not None:
        raise EngineError(
            f"Response with id '{read.previous_response_id}' not found.",
            status=404,
            kind="invalid_request_error",
            param="response_id",
        )


def _sampling(read: Sampling, context: Context) -> dict[str, Any]:
    temperature, top_p = read.temperature, read.top_p
    if temperature is not None and not (math.isfinite(temperature) and 0 <= temperature <= 2):
        raise EngineError(f"temperature must be in [0, 2], got {temperature}.", param="temperature")
    if top_p is not None and not 0 < top_p <= 1:
        raise EngineError(f"top_p must be in (0, 1], got {top_p}.", param="top_p")
    return {
        "include_reasoning": read.include_reasoning,
        "reasoning_budget": read.thinking_token_budget,
        "priority": _priority(context.priority_header, read.priority),
        "seed": read.seed,
    }


def _priority(header: str | None, body: int) -> int:
    try:
        return int(header) if header is not None else body
    except ValueError:
        # As in vLLM: a header that is no number is ignored, and the body's value holds.
        return body


def _effort(asked: str | None) -> Effort:
    if asked is None:
        return DEFAULT_EFFORT
    if asked not in EFFORTS:
        raise EngineError(
            f"reasoning_effort={asked!r} is not supported by Harmony. "
            f"Supported values are: {', '.join(reversed(EFFORTS))}."
        )
    return asked


def _limit(asked: int | None, room: int) -> int:
    limit = room if asked is None else min(asked, room)
    if limit < 1:
        raise EngineError(f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    return limit


def _choices(read: ChatBody) -> int:
    count = 1 if read.n is None else read.n
    if count < 1:
        raise EngineError(f"n must be at least 1, got {count}.")
    if count > 1 and read.temperature == 0:
        raise EngineError(f"n must be 1 when using greedy sampling, got {count}.")
    return count


def _chat_schema(read: ChatBody) -> dict[str, Any] | None:
    form = read.response_format
    if form is None:
        return None
    return _schema(form.type, form.json_schema.json_schema if form.json_schema else None)


def _schema(kind: str, schema: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if kind == "text" else schema or {"type": "object"}


def _chat_turn(message: dict[str, Any]) -> Turn:
    role = str(message.get("role", ""))
    calls = message.get("tool_calls") or ()
    called = [str(call.get("function", {}).get("arguments", "")) for call in calls]
    text = " ".join([_text(message.get("content")), *called]).strip()
    return Turn("tool" if role == "function" else role, text)


def _input_turns(read: ResponsesBody) -> tuple[Turn, ...]:
    first = [Turn("developer", read.instructions)] if read.instructions else []
    if isinstance(read.input, str):
        return (*first, Turn("user", read.input))
    return (*first, *(_item_turn(item, read.input) for item in read.input))


def _item_turn(item: dict[str, Any], items: Sequence[dict[str, Any]]) -> Turn:
    match item.get("type", "message"):
        case "message":
            return Turn(str(item.get("role", "")), _text(item.get("content")))
        case "reasoning":
            return Turn("analysis", _text(item.get("content")))
        case "function_call":
            return Turn("assistant", str(item.get("arguments", "")))
        case "function_call_output":
            _check_output(item, items)
            return Turn("tool", str(item["output"]))
        case other:
            raise EngineError(f"Unknown input type: {other}")


def _check_output(item: dict[str, Any], items: Sequence[dict[str, Any]]) -> None:
    call_id = item.get("call_id")
    calls = {other.get("call_id") for other in items if other.get("type") == "function_call"}
    if call_id not in calls:
        raise EngineError(f"No call message found for {call_id}")
    if not isinstance(item.get("output"), str):
        raise EngineError("1 validation error for Message: the output of a call must be a string")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict)).strip()


def _count(turns: Sequence[Turn], tools: Sequence[Tool]) -> int:
    texts = [turn.text for turn in turns] + [f"{tool.name}{tool.parameters}" for tool in tools]
    return SYSTEM_TOKENS + sum(4 + math.ceil(len(text.encode()) / 4) for text in texts)
