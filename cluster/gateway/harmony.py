"""What a model that leaves Harmony's format would show: control tokens, and calls of what nobody offered.

Only the real tokens count: ``<|`` alone is an operator in F#, Elm and Haskell, and must pass.
"""

import re
from typing import Any

from cluster.gateway.http_errors import HarmonyFault

_NAMES = "startoftext|endoftext|endofprompt|return|constrain|channel|start|end|message|call|refusal"
CONTROL_TOKEN = re.compile(rf"<\|(?:{_NAMES}|reserved_[0-9]{{1,6}})\|>")
_TOKENS = tuple(f"<|{name}|>" for name in _NAMES.split("|"))
_BEGUN_RESERVED = re.compile(r"<\|reserved_[0-9]{0,6}\|?")
_LONGEST = 24
"""Characters; no control token is longer."""


def refuse_control_tokens(text: str) -> None:
    """Raise `HarmonyFault` when ``text`` holds a control token."""
    if "<|" in text and CONTROL_TOKEN.search(text):
        raise HarmonyFault("control_token")


def refuse_unknown_tool(name: Any, tools: frozenset[str]) -> None:
    """Raise `HarmonyFault` when a call is of none of ``tools``."""
    if name not in tools:
        raise HarmonyFault("unknown_tool")


def refuse_unknown_item(item: dict[str, Any], tools: frozenset[str]) -> None:
    """Raise `HarmonyFault` for an item of a response that no request here can lead to.

    What the model addresses to something else than a function, vLLM takes for a call of a built-in tool or of
    an MCP server.
    """
    kind = item.get("type")
    if kind == "function_call":
        refuse_unknown_tool(item.get("name"), tools)
    elif kind not in ("message", "reasoning"):
        raise HarmonyFault("unknown_tool")


class ControlTokenGuard:
    """Watches text that arrives in pieces, one guard a stream."""

    def __init__(self) -> None:
        self._tails: dict[str, str] = {}

    def feed(self, channel: str, piece: str) -> bool:
        """Take the next piece of one text; return whether a control token may have begun.

        ``channel`` names the text, as pieces of several may alternate. While this returns True, what was fed
        must be held back. Raises `HarmonyFault` when a control token is complete.
        """
        text = self._tails.pop(channel, "") + piece
        refuse_control_tokens(text)
        tail = _begun(text)
        if tail:
            self._tails[channel] = tail
        return bool(self._tails)

    def end(self, source: str) -> bool:
        """Take the end of all texts whose channel begins with ``source``; return as `feed` does."""
        for channel in [channel for channel in self._tails if channel.startswith(source)]:
            del self._tails[channel]
        return bool(self._tails)


def _begun(text: str) -> str:
    """Return the end of ``text`` that could grow into a control token; empty when there is none."""
    start = text.rfind("<", -_LONGEST)
    tail = text[start:] if start >= 0 else ""
    begun = any(token.startswith(tail) for token in _TOKENS) or "<|reserved_".startswith(tail)
    return tail if tail and (begun or _BEGUN_RESERVED.fullmatch(tail)) else ""
