"""Every field of OpenAI's two completion requests, and what becomes of each here.

One table an endpoint, and no other place decides: *honoured* (it has its effect), *ignored* (accepted without
effect, and named in ``x-ignored-params``) or *refused* (400 with the reason). A field that is in no table,
vLLM's own included, is unknown: 400. The fields are those of the ``openai`` package's ``create`` methods; a
test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster.core.checks import (
    Check,
    boolean,
    choice,
    decimal,
    integer,
    mapping,
    members,
    metadata,
    string,
    text,
    words,
)
from cluster.core.invalid import unrecognized, unsupported
from cluster.core.messages import chat_messages, input_items
from cluster.core.tools import (
    chat_tool_choice,
    chat_tools,
    response_format,
    response_tool_choice,
    response_tools,
    text_format,
)

Rule = Literal["honoured", "ignored", "refused"]

MAX_OUTPUT_TOKENS = 2**31 - 1
"""Largest output limit that is read at all; the effort's own limit lowers it."""
MAX_CHOICES = 8
"""Largest ``n``: each choice costs a request's output."""

EFFORT_WORDS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's words for the effort; `effort.choose` maps them."""


_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Field:
    """What becomes of one field."""

    rule: Rule
    check: Check
    note: str = ""
    """For the documentation: the effect, or why there is none."""
    harmless: tuple[Any, ...] = ()
    """Values of an ignored or refused field that ask for nothing but what is done anyway."""
    forwarded: bool = False
    """Whether the engine sees the field as it is checked."""

    def asks_nothing(self, value: Any) -> bool:
        """Whether ``value`` asks for no more than what happens without the field."""
        return any(type(value) is type(same) and value == same for same in self.harmless)


def _passed(check: Check, note: str = "") -> Field:
    return Field("honoured", check, note, forwarded=True)


def _used(check: Check, note: str) -> Field:
    return Field("honoured", check, note)


def _ignored(check: Check, note: str, *harmless: Any) -> Field:
    return Field("ignored", check, note, harmless)


def _refused(reason: str, *harmless: Any) -> Field:
    def refuse(_value: Any, path: str) -> Any:
        raise unsupported(path, reason)

    return Field("refused", refuse, reason, harmless)


_NO_STATE = "this service keeps no state between requests; send the whole conversation"
_NO_LOGPROBS = "log probabilities would show the hidden reasoning"
_NO_FUNCTIONS = "it is deprecated; use 'tools' and 'tool_choice'"
_NO_MODERATION = "no moderation model runs here"

_effort = choice(*EFFORT_WORDS)
_temperature = decimal(0, 2)
_top_p = decimal(0, 1, open_low=True)
_penalty = decimal(-2, 2)
_output_tokens = integer(1, MAX_OUTPUT_TOKENS)
_verbosity = choice("low", "medium", "high")
_identifier = string(longest=512)
_summary = choice("auto", "concise", "detailed")

_SHARED: Mapping[str, Field] = {
    "model": _used(text, "A model or an alias."),
    "stream": _used(boolean, "Server-sent events instead of one answer."),
    "temperature": _passed(_temperature, "0 to 2."),
    "top_p": _passed(_top_p, "Above 0, to 1."),
    "parallel_tool_calls": _passed(boolean, "gpt-oss makes one call a turn, whatever is asked."),
    "prompt_cache_key": _used(
        string(longest=1024), "Keeps a conversation on the replica that has its cache."
    ),
    "safety_identifier": _ignored(_identifier, "Users are told apart by API key."),
    "user": _ignored(_identifier, "Users are told apart by API key."),
    "service_tier": _ignored(
        choice("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
        "Requests are ordered by effort and deadline.",
        "auto",
        "default",
    ),
    "store": _ignored(boolean, "Nothing is stored; an answer says false.", False),
    "prompt_cache_options": _ignored(mapping, "The prefix cache is automatic."),
    "prompt_cache_retention": _ignored(choice("in_memory", "24h"), "The prefix cache is automatic."),
    "moderation": _refused(_NO_MODERATION),
    "top_logprobs": _refused(_NO_LOGPROBS, 0),
}

CHAT: Mapping[str, Field] = {
    **_SHARED,
    "messages": _passed(
        chat_messages, "Text only. A message's `name` is checked, but gpt-oss has no use for it."
    ),
    "max_completion_tokens": _used(_output_tokens, "Lowered to the effort's limit."),
    "max_tokens": _used(_output_tokens, "The same, by its older name."),
    "n": _passed(integer(1, MAX_CHOICES), f"1 to {MAX_CHOICES}."),
    "seed": _passed(integer(-_INT64, _INT64 - 1), "Best effort, as at OpenAI."),
    "frequency_penalty": _passed(_penalty, "-2 to 2."),
    "presence_penalty": _passed(_penalty, "-2 to 2."),
    "reasoning_effort": _used(_effort, "Levels that gpt-oss lacks are mapped to the nearest."),
    "response_format": _passed(response_format, "text, json_object, or json_schema with a bounded schema."),
    "tools": _passed(chat_tools, "Functions."),
    "tool_choice": _passed(chat_tool_choice, "none, auto, required, or a function by name."),
    "stream_options": _used(
        members({"include_usage": boolean, "include_obfuscation": boolean}), "`include_usage`."
    ),
    "metadata": _ignored(metadata, "Nothing is stored."),
    "verbosity": _ignored(_verbosity, "gpt-oss has no such control."),
    "prediction": _ignored(mapping, "It would only save time."),
    "stop": _refused("a stop string would also match, and end, the hidden reasoning", []),
    "logprobs": _refused(_NO_LOGPROBS, False),
    "logit_bias": _refused("a bias breaks the model's output format", {}),
    "audio": _refused("the model writes text only"),
    "modalities": _refused("the model writes text only", ["text"]),
    "functions": _refused(_NO_FUNCTIONS, []),
    "function_call": _refused(_NO_FUNCTIONS),
    "web_search_options": _refused("this service runs no built-in tools"),
}

RESPONSES: Mapping[str, Field] = {
    **_SHARED,
    "input": _passed(input_items, "A string, or messages, reasoning, function calls and their outputs."),
    "instructions": _passed(text, "The developer message."),
    "max_output_tokens": _used(_output_tokens, "Lowered to the effort's limit."),
    "reasoning": _used(
        members(
            {
                "effort": _effort,
                "summary": _summary,
                "generate_summary": _summary,
                "context": choice("auto", "current_turn", "all_turns"),
                "mode": choice("standard"),
            }
        ),
        "`effort`; levels that gpt-oss lacks are mapped to the nearest.",
    ),
    "text": _used(members({"format": text_format, "verbosity": _verbosity}), "`format`."),
    "tools": _passed(response_tools, "Functions."),
    "tool_choice": _passed(response_tool_choice, "none, auto, required, or a function by name."),
    "metadata": _passed(metadata, "Repeated in the answer; nothing is stored."),
    "include": _ignored(
        words(
            "reasoning.encrypted_content",
            "code_interpreter_call.outputs",
            "computer_call_output.output.image_url",
            "file_search_call.results",
            "message.input_image.image_url",
            "web_search_call.action.sources",
            "web_search_call.results",
        ),
        "There is nothing of the kind to include.",
        [],
    ),
    "stream_options": _used(members({"include_obfuscation": boolean}), "Nothing in it has an effect."),
    "max_tool_calls": _ignored(
        integer(1, MAX_OUTPUT_TOKENS), "It bounds built-in tools, of which there are none."
    ),
    "truncation": _refused("a prompt that is too long is an error here", "disabled"),
    "background": _refused("there is no background mode; stream the answer instead", False),
    "background_options": _refused("there is no background mode"),
    "previous_response_id": _refused(_NO_STATE),
    "conversation": _refused(_NO_STATE),
    "prompt": _refused("there are no stored prompts"),
    "context_management": _refused("there is no compaction; shorten the conversation yourself"),
    "image": _refused("the model reads text only"),
    "access_programs": _refused("there are none"),
}

PARTLY_IGNORED: Mapping[str, tuple[str, ...]] = {
    "stream_options": ("include_obfuscation",),
    "reasoning": ("summary", "generate_summary", "context", "mode"),
    "text": ("verbosity",),
}
"""Members without effect of fields that are honoured otherwise."""


def check_fields(table: Mapping[str, Field], document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check a request's fields; null counts as absent.

    Returns the honoured fields as checked, and the names of the ignored ones. Raises `InvalidRequest`.
    """
    strangers = [name for name in document if name not in table]
    if strangers:
        raise unrecognized(strangers)
    checked: dict[str, Any] = {}
    ignored: list[str] = []
    for name, value in document.items():
        field = table[name]
        if value is None or (field.harmless and field.asks_nothing(value)):
            continue
        checked_value = field.check(value, name)
        if field.rule == "ignored":
            ignored.append(name)
        elif checked_value is not None:
            checked[name] = checked_value
        for part in PARTLY_IGNORED.get(name, ()):
            if value.get(part) is not None:
                ignored.append(f"{name}.{part}")
    return checked, ignored
