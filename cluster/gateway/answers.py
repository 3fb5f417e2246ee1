"""A whole answer on its way to the client: in OpenAI's form, reasoning hidden by policy. Pure."""

from collections.abc import Iterable
from typing import Any

import orjson

from cluster.core.accounting import Usage
from cluster.core.request import Endpoint
from cluster.gateway import openai_form
from cluster.gateway.asked import Asked
from cluster.gateway.endings import refuse_aborted_choice, refuse_unfinished_response
from cluster.gateway.harmony import refuse_control_tokens, refuse_unknown_item, refuse_unknown_tool
from cluster.gateway.http_errors import EngineFailed, HarmonyFault

_MALFORMED = (KeyError, TypeError, AttributeError, orjson.JSONDecodeError)
"""What reading an answer raises that is none."""


class WholeAnswer:
    """An engine's whole answer, read. Raises `EngineFailed` when ``body`` is none."""

    def __init__(self, endpoint: Endpoint, body: bytes) -> None:
        self._endpoint = endpoint
        try:
            self._data = orjson.loads(body)
            usage = self._data["usage"]
            self.usage = chat_usage(usage) if endpoint == "chat" else response_usage(usage)
            """Tokens that it took, also when the client may not have it."""
        except _MALFORMED as error:
            raise _malformed() from error

    def filtered(self, asked: Asked) -> bytes:
        """Return the body for the client.

        Raises `HarmonyFault` when the answer is empty, holds control tokens or calls what nobody offered,
        `EngineFailed` when it broke off or is no answer at all.
        """
        try:
            if self._endpoint == "chat":
                return orjson.dumps(_chat(self._data, asked))
            answer = response_object(self._data, asked)
            refuse_unfinished_response(answer, says=any(map(_says, answer["output"])))
            return orjson.dumps(answer)
        except _MALFORMED as error:
            raise _malformed() from error


def _malformed() -> EngineFailed:
    return EngineFailed("The model's answer was malformed. Please try again.")


def chat_usage(usage: dict[str, Any]) -> Usage:
    """Return the tokens that a chat ``usage`` object tells."""
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return Usage(
        prompt=usage["prompt_tokens"],
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning=reasoning,
        answer=max((usage.get("completion_tokens") or 0) - reasoning, 0),
    )


def response_usage(usage: dict[str, Any]) -> Usage:
    """Return the tokens that a Responses ``usage`` object tells."""
    reasoning = (usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0
    return Usage(
        prompt=usage["input_tokens"],
        cached=(usage.get("input_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning=reasoning,
        answer=max((usage.get("output_tokens") or 0) - reasoning, 0),
    )


def response_object(response: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Return a Responses object as a client may see it.

    Raises `HarmonyFault` for control tokens, and for items that no request can lead to.
    """
    for item in response.get("output") or []:
        refuse_unknown_item(item, asked.tools)
    kept = openai_form.response(response, asked.tier)
    if not asked.see_reasoning:
        kept["output"] = [item for item in kept["output"] if item.get("type") != "reasoning"]
    for item in kept["output"]:
        refuse_tokens_in_item(item)
    return kept


def refuse_tokens_in_item(item: dict[str, Any]) -> None:
    """Raise `HarmonyFault` when an item of a response shows a control token."""
    texts = [item.get("name"), item.get("arguments")]
    for part in item.get("content") or []:
        texts.append(part.get("text"))
    for text in texts:
        refuse_control_tokens(text or "")


def _says(item: dict[str, Any]) -> bool:
    text = any(part.get("text") for part in item.get("content") or [])
    return item.get("type") != "reasoning" and bool(text or item.get("name"))


def _chat(data: dict[str, Any], asked: Asked) -> dict[str, Any]:
    for choice in data["choices"]:
        refuse_aborted_choice(choice, data["usage"], asked)
    answer = openai_form.completion(data, asked.tier)
    for choice in answer["choices"]:
        if not asked.see_reasoning:
            choice["message"].pop("reasoning", None)
        for text in _chat_texts(choice["message"]):
            refuse_control_tokens(text)
        for call in choice["message"].get("tool_calls") or []:
            refuse_unknown_tool(call["function"].get("name"), asked.tools)
    if all(_is_empty(choice) for choice in answer["choices"]):
        raise HarmonyFault("empty")
    return answer


def _chat_texts(message: dict[str, Any]) -> Iterable[str]:
    yield message.get("content") or ""
    yield message.get("reasoning") or ""
    for call in message.get("tool_calls") or []:
        yield call["function"].get("name") or ""
        yield call["function"].get("arguments") or ""


def _is_empty(choice: dict[str, Any]) -> bool:
    message = choice["message"]
    said = message.get("content") or message.get("tool_calls")
    return choice["finish_reason"] != "length" and not said
