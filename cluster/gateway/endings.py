"""Which ends of an engine's answer are none, though they look like one. Pure.

vLLM ends what it aborts, as when it shuts down, like any other answer. A chat then has the finish reason
``abort``; none at all, where no token had come; or ``tool_calls``, after half a call. A response is
``cancelled``, or ``incomplete`` without any output.
"""

from typing import Any

import orjson

from cluster.core.accounting import Usage
from cluster.gateway.asked import Asked
from cluster.gateway.engine_errors import answer_aborted
from cluster.gateway.harmony import refuse_unknown_tool
from cluster.gateway.http_errors import EngineFailed, HarmonyFault

_FINISHED = frozenset({"stop", "length", "tool_calls"})
"""OpenAI's finish reasons, as far as an engine here can have them."""


def refuse_aborted_choice(choice: dict[str, Any], usage: dict[str, Any], asked: Asked) -> None:
    """Raise `EngineFailed` when a whole chat's choice was aborted; name its limit where that cut a call."""
    calls = choice["message"].get("tool_calls") or []
    if calls and _in_a_call(choice, calls[-1]["function"].get("arguments") or ""):
        at_limit = (usage.get("completion_tokens") or 0) >= asked.max_output_tokens
        choice["finish_reason"] = "length" if at_limit else "abort"
    if choice["finish_reason"] not in _FINISHED:
        raise answer_aborted()


def refuse_unfinished_response(response: dict[str, Any], *, says: bool) -> None:
    """Raise `EngineFailed` for a response that was aborted, `HarmonyFault` for one that says nothing.

    ``says`` is whether it has text or a call. vLLM calls what has neither ``incomplete`` for its limit,
    whether or not it came near it.
    """
    status, spent = response.get("status"), (response.get("usage") or {}).get("output_tokens") or 0
    if status not in ("completed", "incomplete"):
        raise answer_aborted()
    limit = response.get("max_output_tokens")
    at_limit = status == "incomplete" and (limit is None or spent >= limit)
    if says or (spent and at_limit):
        return
    raise HarmonyFault("empty") if spent else answer_aborted()


class ChatEnds:
    """How the choices of one chat stream end, and what they call.

    The tokens that a choice took are told after its end, so a bad end waits for them.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._open = asked.choices
        self._arguments: dict[int, tuple[int, list[str]]] = {}
        """Of each choice's last call: the call's index, and its arguments in pieces."""
        self._held: list[dict[str, Any]] = []
        self._failure: EngineFailed | None = None

    def take(self, chunk: dict[str, Any], *, answered: bool) -> bool:
        """Take a chunk as the engine sent it; return whether it must wait, or never pass.

        ``answered`` is whether content or a call has come. Raises `HarmonyFault` for a call of no tool.
        """
        bad = False
        for choice in chunk.get("choices") or ():
            bad |= self._ends_badly(choice, answered)
        if bad:
            self._held.append(chunk)
        return bad or self._failure is not None

    def decide(self, usage: Usage) -> list[dict[str, Any]]:
        """Return chunks that waited and may pass, as the limit cut their call. Raises `EngineFailed`."""
        if self._failure is not None:
            raise self._failure
        if self._held and usage.reasoning + usage.answer < self._asked.max_output_tokens:
            raise answer_aborted()
        held, self._held = self._held, []
        for choice in [choice for chunk in held for choice in chunk["choices"]]:
            choice["finish_reason"] = "length"
            self._open -= 1
        return held

    def close(self) -> None:
        """Take the end of the stream. Raises `EngineFailed` when a choice has none, or a bad one."""
        if self._failure is not None:
            raise self._failure
        if self._open > 0:
            raise answer_aborted()

    def _ends_badly(self, choice: dict[str, Any], answered: bool) -> bool:
        index = choice.get("index", 0)
        for call in (choice.get("delta") or {}).get("tool_calls") or ():
            self._note(index, call)
        reason = choice.get("finish_reason")
        if not reason:
            return False
        if reason not in _FINISHED:
            self._failure = answer_aborted()
        elif reason != "length" and not answered and self._asked.choices == 1:
            self._failure = HarmonyFault("empty")
        elif not _in_a_call(choice, "".join(self._arguments.get(index, (0, []))[1])):
            self._open -= 1
            return False
        return True

    def _note(self, choice: int, call: dict[str, Any]) -> None:
        number, function = call.get("index", 0), call.get("function") or {}
        last, pieces = self._arguments.get(choice, (None, []))
        if number != last:
            refuse_unknown_tool(function.get("name"), self._asked.tools)
            pieces = []
            self._arguments[choice] = (number, pieces)
        pieces.append(function.get("arguments") or "")


def _in_a_call(choice: dict[str, Any], arguments: str) -> bool:
    """Whether a choice ended inside its last call, whose ``arguments`` those are.

    vLLM says ``tool_calls`` then, as after a whole call; of a whole one it names the token that ended it.
    """
    if choice["finish_reason"] != "tool_calls" or choice.get("stop_reason", "") is not None:
        return False
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return True
    return False
