"""The messages of a chat and the input items of a response: checked, and rebuilt as plain text.

The engine gets only what gpt-oss has a place for: every content becomes one string, null members are dropped
(vLLM stumbles over ``tool_calls: null``), and what clients repeat from earlier answers without a meaning here
(ids, annotations) goes no further. Control tokens in texts are harmless: Harmony encodes text as text.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cluster.core.checks import array, choice, mapping, name, string, text
from cluster.core.invalid import InvalidRequest, missing, wrong_type
from cluster.core.shapes import (
    Field,
    Inner,
    Shape,
    ignored,
    nested,
    one,
    refused,
    repeated,
    required,
    take,
    used,
)
from cluster.core.tools import NO_BUILT_IN, NO_CUSTOM, NO_PROGRAMS, NO_WAITING

MAX_MESSAGES = 2048
"""Most messages or input items of one request."""
MAX_PARTS = 1024
"""Most parts of one content."""
MAX_CALLS = 128
"""Most tool calls of one message, OpenAI's limit."""

_MEDIA = "this model reads text only; images, audio and files are not supported"
_NO_STATE = "this service keeps no state between requests; send the item itself"
_NO_COMPACTION = "there is no compaction; shorten the conversation yourself"

_call_id = string(longest=256, shortest=1)


def chat_messages(value: Any, path: str, unused: list[str]) -> list[dict[str, Any]]:
    """Check and rebuild the ``messages`` of a chat."""
    calls: set[str] = set()
    return [
        _message(item, f"{path}[{index}]", unused, calls)
        for index, item in enumerate(array(value, path, longest=MAX_MESSAGES, shortest=1))
    ]


def input_items(value: Any, path: str, unused: list[str]) -> str | list[dict[str, Any]]:
    """Check and rebuild the ``input`` of a response: a string, or items."""
    if type(value) is str:
        return value
    if type(value) is not list:
        raise wrong_type(path, "one of a string or an array of input items", value)
    calls: set[str] = set()
    rebuilt = [
        _item(item, f"{path}[{index}]", unused, calls)
        for index, item in enumerate(array(value, path, longest=MAX_MESSAGES, shortest=1))
    ]
    return [item for item in rebuilt if item is not None]


def _message(value: Any, path: str, unused: list[str], calls: set[str]) -> dict[str, Any]:
    message = mapping(value, path)
    taken = take(CHAT_MESSAGES.pick(message, path), message, path, unused)
    if taken["role"] == "assistant":
        return _assistant(taken, message, path, calls)
    required(taken, "content", path)
    if taken["role"] == "tool":
        _answered(required(taken, "tool_call_id", path), path, calls)
    return taken


def _assistant(taken: dict[str, Any], message: dict[str, Any], path: str, calls: set[str]) -> dict[str, Any]:
    rebuilt: dict[str, Any] = {"role": "assistant"}
    content = taken.get("content", taken.get("refusal"))
    if content is not None:
        rebuilt["content"] = content
    reasoning = taken.get("reasoning", taken.get("reasoning_content"))
    if reasoning is not None:
        rebuilt["reasoning"] = reasoning
    if taken.get("tool_calls"):
        rebuilt["tool_calls"] = taken["tool_calls"]
        calls.update(call["id"] for call in taken["tool_calls"])
    if len(rebuilt) == 1:
        if "content" not in message:
            raise missing(f"{path}.content")
        rebuilt["content"] = ""  # an answer that was cut while it was thinking
    return rebuilt


def _tool_calls(value: Any, path: str, unused: list[str]) -> list[dict[str, Any]]:
    return [
        _tool_call(mapping(item, f"{path}[{index}]"), f"{path}[{index}]", unused)
        for index, item in enumerate(array(value, path, longest=MAX_CALLS))
    ]


def _tool_call(call: dict[str, Any], path: str, unused: list[str]) -> dict[str, Any]:
    taken = take(_CALLS.pick(call, path), call, path, unused)
    function = required(taken, "function", path)
    return {
        "id": required(taken, "id", path),
        "type": "function",
        "function": {key: required(function, key, f"{path}.function") for key in ("name", "arguments")},
    }


def _answered(call_id: str, path: str, calls: set[str]) -> None:
    """Check the id of the call that a tool message answers."""
    if call_id not in calls:
        raise InvalidRequest(
            "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
            "'tool_calls'.",
            param=f"{path}.role",
        )


def _item(value: Any, path: str, unused: list[str], calls: set[str]) -> dict[str, Any] | None:
    """Check one input item; None for one without a meaning, such as reasoning without its text."""
    item = mapping(value, path)
    taken = take(INPUT_ITEMS.pick(item, path), item, path, unused)
    kind = taken.setdefault("type", "message")
    return _ITEMS[kind](taken, path, calls)


def _message_item(item: dict[str, Any], path: str, _calls: set[str]) -> dict[str, Any]:
    required(item, "role", path)
    required(item, "content", path)
    return item


def _call_item(item: dict[str, Any], path: str, calls: set[str]) -> dict[str, Any]:
    for key in ("call_id", "name", "arguments"):
        required(item, key, path)
    calls.add(item["call_id"])
    return item


def _output_item(item: dict[str, Any], path: str, calls: set[str]) -> dict[str, Any]:
    if required(item, "call_id", path) not in calls:
        raise InvalidRequest(
            "No function call found for a function call output: each 'function_call_output' needs its "
            "'function_call' before it.",
            param=f"{path}.call_id",
        )
    required(item, "output", path)
    return item


def _reasoning_item(item: dict[str, Any], _path: str, _calls: set[str]) -> dict[str, Any] | None:
    if not item.get("content"):
        return None
    thought = {"type": "reasoning_text", "text": item["content"]}
    return {"id": "rs_0", **item, "summary": [], "content": [thought]}


_ITEMS: Mapping[str, Callable[[dict[str, Any], str, set[str]], dict[str, Any] | None]] = {
    "message": _message_item,
    "function_call": _call_item,
    "function_call_output": _output_item,
    "reasoning": _reasoning_item,
}


def _summaries(value: Any, path: str) -> list[Any]:
    return array(value, path, longest=MAX_PARTS)


def _content(inner: Inner, note: str = "Text parts are joined.", *, shortest: int = 1) -> Field:
    """Return the field of a content, a string or an array of text parts, which is read as one string."""

    def read(value: Any, path: str, unused: list[str]) -> str:
        if type(value) is str:
            return value
        if type(value) is not list:
            raise wrong_type(path, "one of a string or an array of text parts", value)
        return "".join(
            [
                _text(inner, part, f"{path}[{index}]", unused)
                for index, part in enumerate(array(value, path, longest=MAX_PARTS, shortest=shortest))
            ]
        )

    return nested(read, inner, note)


def _text(inner: Inner, value: Any, path: str, unused: list[str]) -> str:
    part = mapping(value, path)
    taken = take(inner.pick(part, path), part, path, unused)
    member = "refusal" if taken["type"] == "refusal" else "text"
    return str(required(taken, member, path))


def _parts(shapes: Mapping[str, Shape], *media: str) -> Inner:
    """Return the kinds of part of a content, and those of media, which are refused."""
    return Inner(shapes, tag="type", refused=dict.fromkeys(media, _MEDIA), array=True)


_BREAKPOINT = ignored(mapping, "The prefix cache is automatic.")
_TEXT: Shape = {"type": used(text), "text": used(text)}
_INPUT_TEXT: Shape = {**_TEXT, "prompt_cache_breakpoint": _BREAKPOINT}
_OUTPUT_TEXT: Shape = {**_TEXT, "annotations": repeated(), "logprobs": repeated()}
_REFUSAL: Shape = {"type": used(text), "refusal": used(text)}

_CHAT_PARTS = _parts({"text": _INPUT_TEXT}, "image_url", "input_audio", "file", "video_url")
_ASSISTANT_PARTS = _parts({"text": _INPUT_TEXT, "refusal": _REFUSAL})
_ITEM_PARTS = _parts(
    {"input_text": _INPUT_TEXT, "output_text": _OUTPUT_TEXT, "text": _INPUT_TEXT, "refusal": _REFUSAL},
    *("input_image", "input_file", "input_audio"),
)
_OUTPUT_PARTS = _parts({"input_text": _INPUT_TEXT}, "input_image", "input_file")
_THOUGHT_PARTS = _parts({"reasoning_text": _TEXT})

_CALLS = Inner(
    {
        "function": {
            "id": used(_call_id),
            "type": used(text),
            "function": one({"name": used(name), "arguments": used(text, "JSON, as text.")}, ""),
            "index": repeated("Repeated from a stream's delta."),
        }
    },
    tag="type",
    refused={"custom": NO_CUSTOM},
    array=True,
    default="function",
)
_NAME = ignored(name, "gpt-oss has no place for names of speakers.")
_SAID: Shape = {"role": used(text), "content": _content(_CHAT_PARTS), "name": _NAME}
_THOUGHT = "The chain of thought of an earlier answer; not one of OpenAI's fields."
CHAT_MESSAGES = Inner(
    {
        "system": _SAID,
        "developer": _SAID,
        "user": _SAID,
        "assistant": {
            "role": used(text),
            "content": _content(_ASSISTANT_PARTS),
            "name": _NAME,
            "refusal": used(text, "The content, where there is no other."),
            "tool_calls": nested(_tool_calls, _CALLS),
            "reasoning": used(text, _THOUGHT),
            "reasoning_content": used(text, "The same, by its older name."),
            "annotations": repeated(),
            "audio": refused("use text and 'tool_calls'"),
            "function_call": refused("use text and 'tool_calls'"),
        },
        "tool": {
            "role": used(text),
            "content": _content(_CHAT_PARTS),
            "tool_call_id": used(text, "Of a call in a message before it."),
            "name": _NAME,
        },
    },
    tag="role",
    refused={"function": "it is deprecated; use the role 'tool'"},
    array=True,
)
"""The messages of a chat."""

_REPEATED: Shape = {"id": repeated(), "status": repeated()}
_CALLED: Shape = {
    "type": used(text),
    **_REPEATED,
    "call_id": used(_call_id),
    "namespace": refused("tools have no namespaces here"),
    "caller": refused(NO_PROGRAMS, {"type": "direct"}),
}
_NO_ITEMS = {
    **dict.fromkeys(
        (
            *("file_search_call", "computer_call", "computer_call_output", "web_search_call"),
            *("image_generation_call", "code_interpreter_call", "local_shell_call", "shell_call"),
            *("local_shell_call_output", "shell_call_output", "apply_patch_call", "apply_patch_call_output"),
            *("mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "mcp_call"),
            *("tool_search_call", "tool_search_output"),
        ),
        NO_BUILT_IN,
    ),
    **dict.fromkeys(("custom_tool_call", "custom_tool_call_output"), NO_CUSTOM),
    **dict.fromkeys(("program", "program_output"), NO_PROGRAMS),
    **dict.fromkeys(("compaction", "compaction_trigger"), _NO_COMPACTION),
    **dict.fromkeys(("additional_tools", "configuration_update"), "set it for the whole request"),
    "item_reference": _NO_STATE,
}
INPUT_ITEMS = Inner(
    {
        "message": {
            "type": used(text),
            **_REPEATED,
            "role": used(choice("user", "assistant", "system", "developer")),
            "content": _content(_ITEM_PARTS),
            "phase": ignored(choice("commentary", "final_answer"), "gpt-oss tells its channels itself."),
        },
        "function_call": {
            **_CALLED,
            "name": used(name),
            "arguments": used(text, "JSON, as text."),
            "async": refused(NO_WAITING, False),
        },
        "function_call_output": {
            **_CALLED,
            "call_id": used(text, "Of a call before it."),
            "output": _content(_OUTPUT_PARTS),
            "name": repeated("The call says it."),
        },
        "reasoning": {
            "type": used(text),
            "id": used(_call_id),
            "content": _content(_THOUGHT_PARTS, "The chain of thought of an earlier answer.", shortest=0),
            "summary": ignored(_summaries, "gpt-oss reads its own thoughts only.", []),
            "encrypted_content": ignored(text, "Another service's secret."),
            "status": repeated(),
        },
    },
    tag="type",
    refused=_NO_ITEMS,
    array=True,
    default="message",
)
"""The input items of a response."""
