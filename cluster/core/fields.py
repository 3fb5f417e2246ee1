"""Every field of OpenAI's two completion requests, and what becomes of each here.

One table an endpoint, with the shapes of `messages` and `tools` inside it, and no other place decides. The
fields are those of the ``openai`` package's ``create`` methods, at any depth; a test compares them, and
``docs/fields.md`` is written from the tables.
"""

from collections.abc import Mapping
from typing import Any

from cluster.core.checks import boolean, choice, decimal, integer, mapping, metadata, string, text, words
from cluster.core.effort import MIN_REASONING_TOKENS
from cluster.core.invalid import unrecognized
from cluster.core.messages import CHAT_MESSAGES, INPUT_ITEMS, chat_messages, input_items
from cluster.core.shapes import Shape, ignored, nested, one, passed, refused, take, used
from cluster.core.tier import ASKABLE
from cluster.core.tools import (
    CHAT_CHOICE,
    CHAT_FORMAT,
    CHAT_TOOLS,
    RESPONSE_CHOICE,
    RESPONSE_TOOLS,
    TEXT_FORMAT,
    chat_tool_choice,
    chat_tools,
    response_format,
    response_tool_choice,
    response_tools,
    text_format,
)

MAX_OUTPUT_TOKENS = 2**31 - 1
"""Largest output limit that is read at all; the effort's own limit lowers it."""
MAX_CHOICES = 8
"""Largest ``n``: each choice costs a request's output."""

EFFORT_WORDS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's words for the effort; `effort.choose` maps them."""


_INT64 = 2**63

_NO_STATE = "this service keeps no state between requests; send the whole conversation"
_NO_LOGPROBS = "log probabilities would show the hidden reasoning"
_NO_FUNCTIONS = "it is deprecated; use 'tools' and 'tool_choice'"
_NO_MODERATION = "no moderation model runs here"
_TEXT_ONLY = "the model writes text only"
_NO_CONTROL = "gpt-oss has no such control."
_CACHE = "The prefix cache is automatic."
_NO_OBFUSCATION = "Nothing is obfuscated."
_NO_SUMMARY = "No summaries are written."
_NEAREST = "Levels that gpt-oss lacks are mapped to the nearest."

_effort = choice(*EFFORT_WORDS)
_output_tokens = integer(1, MAX_OUTPUT_TOKENS)
_verbosity = choice("low", "medium", "high")
_identifier = string(longest=512)
_summary = choice("auto", "concise", "detailed")

_LOGPROBS_INCLUDED = "message.output_text.logprobs"
_included = words(
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
    refused={_LOGPROBS_INCLUDED: _NO_LOGPROBS},
)

_SHARED: Shape = {
    "model": used(text, "A model or an alias."),
    "stream": used(boolean, "Server-sent events instead of one answer."),
    "temperature": passed(decimal(0, 2), "0 to 2."),
    "top_p": passed(decimal(0, 1, open_low=True), "Above 0, to 1."),
    "parallel_tool_calls": passed(boolean, "gpt-oss makes one call a turn, whatever is asked."),
    "prompt_cache_key": used(string(longest=1024), "Keeps a conversation on the replica that has its cache."),
    "thinking_token_budget": used(
        integer(MIN_REASONING_TOKENS, MAX_OUTPUT_TOKENS),
        "Hard cap on the tokens of one chain of thought, at least 16, lowered to that of the effort, the "
        "tenant and the key; vLLM's field, not one of OpenAI's.",
    ),
    "safety_identifier": ignored(_identifier, "Users are told apart by API key."),
    "user": ignored(_identifier, "Users are told apart by API key."),
    "service_tier": used(choice(*ASKABLE), "`flex` yields; more than the caller's own tier is not given."),
    "store": ignored(boolean, "Nothing is stored; an answer says false.", False),
    "prompt_cache_options": ignored(mapping, _CACHE),
    "prompt_cache_retention": ignored(choice("in_memory", "24h"), _CACHE),
    "moderation": refused(_NO_MODERATION),
    "top_logprobs": refused(_NO_LOGPROBS, 0),
}

CHAT: Shape = {
    **_SHARED,
    "messages": nested(chat_messages, CHAT_MESSAGES, "Text only.", forwarded=True),
    "max_completion_tokens": used(_output_tokens, "Lowered to the effort's limit."),
    "max_tokens": used(_output_tokens, "The same, by its older name."),
    "n": passed(integer(1, MAX_CHOICES), f"1 to {MAX_CHOICES}."),
    "seed": passed(integer(-_INT64, _INT64 - 1), "Best effort, as at OpenAI."),
    "frequency_penalty": passed(decimal(-2, 2), "-2 to 2."),
    "presence_penalty": passed(decimal(-2, 2), "-2 to 2."),
    "reasoning_effort": used(_effort, _NEAREST),
    "response_format": nested(response_format, CHAT_FORMAT, forwarded=True),
    "tools": nested(chat_tools, CHAT_TOOLS, forwarded=True),
    "tool_choice": nested(
        chat_tool_choice, CHAT_CHOICE, "none, auto, required, or a function by name.", forwarded=True
    ),
    "stream_options": one(
        {
            "include_usage": used(boolean, "A last chunk tells the usage."),
            "include_obfuscation": ignored(boolean, _NO_OBFUSCATION, False),
        },
        "With `stream` only.",
    ),
    "metadata": ignored(metadata, "Nothing is stored."),
    "verbosity": ignored(_verbosity, _NO_CONTROL),
    "prediction": ignored(mapping, "It would only save time."),
    "stop": refused("a stop string would also match, and end, the hidden reasoning", []),
    "logprobs": refused(_NO_LOGPROBS, False),
    "logit_bias": refused("a bias breaks the model's output format", {}),
    "audio": refused(_TEXT_ONLY),
    "modalities": refused(_TEXT_ONLY, ["text"]),
    "functions": refused(_NO_FUNCTIONS, []),
    "function_call": refused(_NO_FUNCTIONS),
    "web_search_options": refused("this service runs no built-in tools"),
}

RESPONSES: Shape = {
    **_SHARED,
    "input": nested(input_items, INPUT_ITEMS, "A string, or items of text.", forwarded=True),
    "instructions": passed(text, "The developer message."),
    "max_output_tokens": used(_output_tokens, "Lowered to the effort's limit."),
    "reasoning": one(
        {
            "effort": used(_effort, _NEAREST),
            "summary": ignored(_summary, _NO_SUMMARY),
            "generate_summary": ignored(_summary, _NO_SUMMARY),
            "context": ignored(
                choice("auto", "current_turn", "all_turns"), "Harmony keeps what the turn needs.", "auto"
            ),
            "mode": ignored(choice("standard"), "There is one mode.", "standard"),
        },
        "",
    ),
    "text": one(
        {
            "format": nested(text_format, TEXT_FORMAT),
            "verbosity": ignored(_verbosity, _NO_CONTROL),
        },
        "",
    ),
    "tools": nested(response_tools, RESPONSE_TOOLS, forwarded=True),
    "tool_choice": nested(
        response_tool_choice, RESPONSE_CHOICE, "none, auto, required, or a function by name.", forwarded=True
    ),
    "metadata": passed(metadata, "Repeated in the answer; nothing is stored."),
    "include": ignored(
        _included, f"There is nothing of the kind to include; `{_LOGPROBS_INCLUDED}` is refused.", []
    ),
    "stream_options": one(
        {"include_obfuscation": ignored(boolean, _NO_OBFUSCATION, False)}, "With `stream` only."
    ),
    "max_tool_calls": ignored(
        integer(1, MAX_OUTPUT_TOKENS), "It bounds built-in tools, of which there are none."
    ),
    "truncation": refused("a prompt that is too long is an error here", "disabled"),
    "background": refused("there is no background mode; stream the answer instead", False),
    "background_options": refused("there is no background mode"),
    "previous_response_id": refused(_NO_STATE),
    "conversation": refused(_NO_STATE),
    "prompt": refused("there are no stored prompts"),
    "context_management": refused("there is no compaction; shorten the conversation yourself"),
    "image": refused("the model reads text only"),
    "access_programs": refused("there are none"),
}


def check_fields(table: Shape, document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check a request's fields; null counts as absent.

    Returns the honoured fields as checked, and the names of the ignored ones. Raises `InvalidRequest`.
    """
    strangers = [name for name in document if name not in table]
    if strangers:
        raise unrecognized(strangers)
    unused: list[str] = []
    return take(table, document, "", unused), unused
