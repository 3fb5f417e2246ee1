"""Answers in OpenAI's form: an engine's, less the fields of its own, plus those that it leaves out. Pure.

OpenAI's types decide what a client sees, so that a client made strictly after them reads every answer, and
none learns which engine wrote it. ``reasoning`` in chat is the one field beside them; who sees it is decided
elsewhere.
"""

import hashlib
from functools import lru_cache
from typing import Any

from cluster.core.tier import Tier

_COMPLETION = ("id", "object", "created", "model", "choices", "usage", "system_fingerprint")
_CHOICE = ("index", "message", "finish_reason", "logprobs")
_MESSAGE = ("role", "content", "refusal", "annotations", "tool_calls", "reasoning")
_CHUNK = frozenset(_COMPLETION)
_CHUNK_CHOICE = frozenset(("index", "delta", "finish_reason", "logprobs"))
_DELTA = frozenset(("role", "content", "refusal", "tool_calls", "reasoning", "reasoning_content"))
_REST = b'},"logprobs":null,"finish_reason":null'
_TAILS = (b',"reasoning":null' + _REST + b',"token_ids":null}]}\n\n', _REST + b',"token_ids":null}]}\n\n')
"""How vLLM ends an event of plain content, with nulls of its own; hidden reasoning is the first."""
_END = _REST + b"}]}\n\n"

_RESPONSE = (
    *("id", "object", "created_at", "status", "background", "error", "incomplete_details", "instructions"),
    *(
        "max_output_tokens",
        "max_tool_calls",
        "model",
        "output",
        "parallel_tool_calls",
        "previous_response_id",
    ),
    *("prompt", "reasoning", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p"),
    *("truncation", "usage", "user", "metadata"),
)
_TOOL = ("type", "name", "description", "parameters", "strict")
_ITEMS = {
    "message": ("id", "type", "status", "role", "content"),
    "function_call": ("id", "type", "status", "call_id", "name", "arguments"),
    "reasoning": ("id", "type", "summary", "content"),
}
_EVENTS = {f"response.reasoning_part.{what}": f"response.content_part.{what}" for what in ("added", "done")}
"""VLLM's names of events, and OpenAI's."""
_PARTS = {"output_text": ("type", "text", "annotations", "logprobs"), "reasoning_text": ("type", "text")}


def completion(data: dict[str, Any], tier: Tier) -> dict[str, Any]:
    """Return a chat completion of ``tier``. Raises ``KeyError`` or ``TypeError`` for what is none."""
    kept = _keep(data, _COMPLETION) | {"service_tier": tier}
    kept["choices"] = [_choice(choice) for choice in data["choices"]]
    if "usage" in kept:
        kept["usage"] = chat_usage(kept["usage"])
    if kept.get("system_fingerprint"):
        kept["system_fingerprint"] = fingerprint(kept["system_fingerprint"])
    return kept


def trim_chunk(event: bytes) -> bytes:
    """Return the event of a chat chunk without the nulls that vLLM adds to plain content."""
    for tail in _TAILS:
        if event.endswith(tail):
            return event[: -len(tail)] + _END
    return event


def clean_chunk(data: dict[str, Any]) -> bool:
    """Make a parsed chat chunk one of OpenAI's form; return whether that changed it."""
    changed = _drop(data, _CHUNK)
    for choice in data.get("choices") or []:
        changed |= _drop(choice, _CHUNK_CHOICE)
        changed |= _drop(choice.get("delta") or {}, _DELTA)
    if data.get("usage"):
        data["usage"], changed = chat_usage(data["usage"]), True
    if data.get("system_fingerprint"):
        data["system_fingerprint"], changed = fingerprint(data["system_fingerprint"]), True
    return changed


def chat_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the usage of a chat; ``cache_write_tokens`` are those that vLLM has newly put in its cache."""
    prompt, output = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage.get("completion_tokens") or 0,
        "total_tokens": usage.get("total_tokens") or 0,
        "prompt_tokens_details": {
            "cached_tokens": prompt.get("cached_tokens") or 0,
            "cache_write_tokens": prompt.get("created_cache_tokens") or 0,
        },
        "completion_tokens_details": {"reasoning_tokens": output.get("reasoning_tokens") or 0},
    }


def response(data: dict[str, Any], tier: Tier) -> dict[str, Any]:
    """Return a Responses object of ``tier``; it says that nothing was stored, which vLLM leaves out."""
    kept = _keep(data, _RESPONSE) | {"service_tier": tier, "store": False}
    kept.setdefault("error", None)
    kept["output"] = [item(one) for one in data.get("output") or []]
    kept["tools"] = [_keep(tool, _TOOL) for tool in data.get("tools") or []]
    if data.get("reasoning"):
        kept["reasoning"] = _keep(data["reasoning"], ("effort", "summary"))
    if data.get("usage"):
        kept["usage"] = response_usage(data["usage"])
    return kept


def clean_event(data: dict[str, Any]) -> None:
    """Make an event of a Responses stream one of OpenAI's form; final and first ones hold a `response`."""
    if "item" in data:
        data["item"] = item(data["item"])
    elif "part" in data:
        data["part"] = part(data["part"])
        data["type"] = _EVENTS.get(data["type"], data["type"])
    elif data["type"] == "response.function_call_arguments.done":
        data.pop("name", None)


def item(data: dict[str, Any]) -> dict[str, Any]:
    """Return an output item; one of a kind that is not known here passes as it is."""
    fields = _ITEMS.get(data.get("type", ""))
    if fields is None:
        return data
    kept = _keep(data, fields)
    if kept.get("content"):
        kept["content"] = [part(one) for one in kept["content"]]
    return kept


def part(data: dict[str, Any]) -> dict[str, Any]:
    """Return a part of an item's content; one of a kind that is not known here passes as it is."""
    fields = _PARTS.get(data.get("type", ""))
    if fields is None:
        return data
    kept = _keep(data, fields)
    if kept["type"] == "output_text":
        kept["annotations"], kept["logprobs"] = kept.get("annotations") or [], kept.get("logprobs") or []
    return kept


def response_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the usage of a response; vLLM does not tell there what it wrote to its cache."""
    prompt, output = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": prompt.get("cached_tokens") or 0, "cache_write_tokens": 0},
        "output_tokens": usage.get("output_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": output.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens") or 0,
    }


@lru_cache(maxsize=256)
def fingerprint(engine: str) -> str:
    """Return a fingerprint that changes with the engine's own and tells nothing of it."""
    return "fp_" + hashlib.sha256(engine.encode()).hexdigest()[:10]


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    kept = _keep(choice, _CHOICE)
    message = kept["message"] = _keep(choice["message"], _MESSAGE)
    message["annotations"] = message.get("annotations") or []
    if not message.get("tool_calls"):
        message.pop("tool_calls", None)
    return kept


def _keep(data: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: data[field] for field in fields if field in data}


def _drop(data: dict[str, Any], known: frozenset[str]) -> bool:
    foreign = [key for key in data if key not in known]
    for key in foreign:
        del data[key]
    return bool(foreign)
