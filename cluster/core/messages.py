"""The messages of a chat and the input items of a response: checked, and rebuilt as plain text.

The engine gets only what gpt-oss has a place for: every content becomes one string, null members are dropped
(vLLM stumbles over ``tool_calls: null``), and what clients repeat from earlier answers without a meaning here
(ids, annotations) goes no further. Control tokens in texts are harmless: Harmony encodes text as text.
"""

from collections.abc import Callable
from typing import Any

from cluster.core.checks import array, mapping, name, string, text
from cluster.core.invalid import InvalidRequest, missing, unknown, unsupported, wrong_type, wrong_value

MAX_MESSAGES = 2048
"""Most messages or input items of one request."""
MAX_PARTS = 1024
"""Most parts of one content."""
MAX_CALLS = 128
"""Most tool calls of one message, OpenAI's limit."""

_call_id = string(longest=256, shortest=1)

_MESSAGE_MEMBERS = {
    "system": frozenset(("role", "content", "name")),
    "developer": frozenset(("role", "content", "name")),
    "user": frozenset(("role", "content", "name")),
    "assistant": frozenset(
        (
            *("role", "content", "name", "refusal", "tool_calls", "reasoning", "reasoning_content"),
            *("audio", "function_call", "annotations"),
        )
    ),
    "tool": frozenset(("role", "content", "name", "tool_call_id")),
}
_ITEM_MEMBERS = {
    "message": frozenset(("type", "role", "content", "id", "status", "phase")),
    "function_call": frozenset(("type", "call_id", "name", "arguments", "id", "status")),
    "function_call_output": frozenset(("type", "call_id", "output", "id", "status", "name")),
    "reasoning": frozenset(("type", "content", "summary", "encrypted_content", "id", "status")),
}
_ITEM_ROLES = ("user", "assistant", "system", "developer")
_PART_MEMBERS = frozenset(("type", "text", "refusal", "annotations", "logprobs"))
_CHAT_PARTS = {"text": "text", "refusal": "refusal"}
_ITEM_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_MEDIA = ("image_url", "input_image", "input_audio", "file", "input_file", "video_url")


def chat_messages(value: Any, path: str) -> list[dict[str, Any]]:
    """Check and rebuild the ``messages`` of a chat."""
    calls: set[str] = set()
    return [
        _message(item, f"{path}[{index}]", calls)
        for index, item in enumerate(array(value, path, longest=MAX_MESSAGES, shortest=1))
    ]


def input_items(value: Any, path: str) -> str | list[dict[str, Any]]:
    """Check and rebuild the ``input`` of a response: a string, or items."""
    if type(value) is str:
        return value
    if type(value) is not list:
        raise wrong_type(path, "one of a string or an array of input items", value)
    calls: set[str] = set()
    rebuilt = [
        _item(item, f"{path}[{index}]", calls)
        for index, item in enumerate(array(value, path, longest=MAX_MESSAGES, shortest=1))
    ]
    return [item for item in rebuilt if item is not None]


def _message(value: Any, path: str, calls: set[str]) -> dict[str, Any]:
    message = mapping(value, path)
    role = message.get("role")
    if role is None:
        raise missing(f"{path}.role")
    known = _MESSAGE_MEMBERS.get(text(role, f"{path}.role"))
    if known is None:
        raise wrong_value(f"{path}.role", role, _MESSAGE_MEMBERS)
    _only(message, known, path)
    if message.get("name") is not None:
        name(message["name"], f"{path}.name")
    if role == "assistant":
        return _assistant(message, path, calls)
    rebuilt = {"role": role, "content": _content(message.get("content"), f"{path}.content", _CHAT_PARTS)}
    if role == "tool":
        rebuilt["tool_call_id"] = _answered(message.get("tool_call_id"), path, calls)
    return rebuilt


def _assistant(message: dict[str, Any], path: str, calls: set[str]) -> dict[str, Any]:
    for key in ("audio", "function_call"):
        if message.get(key) is not None:
            raise unsupported(f"{path}.{key}", "use text and 'tool_calls'")
    rebuilt: dict[str, Any] = {"role": "assistant"}
    content = message.get("content")
    if content is None:
        content = message.get("refusal")
    if content is not None:
        rebuilt["content"] = _content(content, f"{path}.content", _CHAT_PARTS)
    reasoning = message.get("reasoning")
    if reasoning is None:
        reasoning = message.get("reasoning_content")
    if reasoning is not None:
        rebuilt["reasoning"] = text(reasoning, f"{path}.reasoning")
    if message.get("tool_calls"):
        rebuilt["tool_calls"] = _tool_calls(message["tool_calls"], f"{path}.tool_calls", calls)
    if len(rebuilt) == 1:
        if "content" not in message:
            raise missing(f"{path}.content")
        rebuilt["content"] = ""  # an answer that was cut while it was thinking
    return rebuilt


def _tool_calls(value: Any, path: str, calls: set[str]) -> list[dict[str, Any]]:
    rebuilt = []
    for index, item in enumerate(array(value, path, longest=MAX_CALLS)):
        place = f"{path}[{index}]"
        call = mapping(item, place)
        _only(call, ("id", "type", "function", "index"), place)
        if call.get("type", "function") != "function":
            raise unsupported(f"{place}.type", "only calls of type 'function' are")
        call_id = _call_id(_required(call, "id", place), f"{place}.id")
        function = mapping(_required(call, "function", place), f"{place}.function")
        _only(function, ("name", "arguments"), f"{place}.function")
        called = {
            "name": name(_required(function, "name", f"{place}.function"), f"{place}.function.name"),
            "arguments": text(
                _required(function, "arguments", f"{place}.function"), f"{place}.function.arguments"
            ),
        }
        calls.add(call_id)
        rebuilt.append({"id": call_id, "type": "function", "function": called})
    return rebuilt


def _answered(value: Any, path: str, calls: set[str]) -> str:
    """Check the id of the call that a tool message answers."""
    place = f"{path}.tool_call_id"
    if value is None:
        raise missing(place)
    if text(value, place) not in calls:
        raise InvalidRequest(
            "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
            "'tool_calls'.",
            param=f"{path}.role",
        )
    return str(value)


def _item(value: Any, path: str, calls: set[str]) -> dict[str, Any] | None:
    """Check one input item; None for one without a meaning, such as reasoning without its text."""
    item = mapping(value, path)
    kind = item.get("type")
    if kind is None:
        kind = "message"
    check = _ITEMS.get(text(kind, f"{path}.type"))
    if check is None:
        raise wrong_value(f"{path}.type", kind, _ITEMS)
    _only(item, _ITEM_MEMBERS[kind], path)
    return check(item, path, calls)


def _message_item(item: dict[str, Any], path: str, _calls: set[str]) -> dict[str, Any]:
    role = text(_required(item, "role", path), f"{path}.role")
    if role not in _ITEM_ROLES:
        raise wrong_value(f"{path}.role", role, _ITEM_ROLES)
    content = _content(item.get("content"), f"{path}.content", _ITEM_PARTS)
    return {"type": "message", "role": role, "content": content}


def _call_item(item: dict[str, Any], path: str, calls: set[str]) -> dict[str, Any]:
    call_id = _call_id(_required(item, "call_id", path), f"{path}.call_id")
    calls.add(call_id)
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name(_required(item, "name", path), f"{path}.name"),
        "arguments": text(_required(item, "arguments", path), f"{path}.arguments"),
    }


def _output_item(item: dict[str, Any], path: str, calls: set[str]) -> dict[str, Any]:
    call_id = text(_required(item, "call_id", path), f"{path}.call_id")
    if call_id not in calls:
        raise InvalidRequest(
            "No function call found for a function call output: each 'function_call_output' needs its "
            "'function_call' before it.",
            param=f"{path}.call_id",
        )
    output = _content(item.get("output"), f"{path}.output", _ITEM_PARTS)
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _reasoning_item(item: dict[str, Any], path: str, _calls: set[str]) -> dict[str, Any] | None:
    parts = item.get("content")
    if not parts:
        return None
    thought = _content(parts, f"{path}.content", {"reasoning_text": "text"})
    item_id = item.get("id")
    return {
        "type": "reasoning",
        "id": "rs_0" if item_id is None else _call_id(item_id, f"{path}.id"),
        "summary": [],
        "content": [{"type": "reasoning_text", "text": thought}],
    }


def _content(value: Any, path: str, parts: dict[str, str]) -> str:
    """Return a content as one string; ``parts`` maps the known types to the member that holds their text."""
    if type(value) is str:
        return value
    if value is None:
        raise missing(path)
    if type(value) is not list:
        raise wrong_type(path, "one of a string or an array of text parts", value)
    return "".join(
        _part(part, f"{path}[{index}]", parts)
        for index, part in enumerate(array(value, path, longest=MAX_PARTS, shortest=1))
    )


def _part(value: Any, path: str, parts: dict[str, str]) -> str:
    part = mapping(value, path)
    kind = text(_required(part, "type", path), f"{path}.type")
    if kind in _MEDIA:
        raise InvalidRequest(
            f"Invalid content type '{kind}': this model reads text only; images, audio and files are not "
            "supported.",
            param=path,
            code="invalid_value",
        )
    member = parts.get(kind)
    if member is None:
        raise wrong_value(f"{path}.type", kind, parts)
    _only(part, _PART_MEMBERS, path)
    return text(_required(part, member, path), f"{path}.{member}")


def _required(inner: dict[str, Any], key: str, path: str) -> Any:
    value = inner.get(key)
    if value is None:
        raise missing(f"{path}.{key}")
    return value


def _only(inner: dict[str, Any], known: frozenset[str] | tuple[str, ...], path: str) -> None:
    for key, value in inner.items():
        if key not in known and value is not None:  # clients dump whole models, nulls and all
            raise unknown(f"{path}.{key}")


_ITEMS: dict[str, Callable[[dict[str, Any], str, set[str]], dict[str, Any] | None]] = {
    "message": _message_item,
    "function_call": _call_item,
    "function_call_output": _output_item,
    "reasoning": _reasoning_item,
}
