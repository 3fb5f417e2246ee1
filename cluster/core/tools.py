"""Tools, tool choice and output formats of both endpoints: checked, and rebuilt from known members only."""

from collections.abc import Callable
from functools import partial
from typing import Any

from cluster.core.checks import array, boolean, mapping, name, string, text
from cluster.core.invalid import InvalidRequest, wrong_type, wrong_value
from cluster.core.schema import SchemaError, Spent, check_schema, is_held
from cluster.core.shapes import Inner, Shape, ignored, one, refused, required, take, used

MAX_TOOLS = 128
"""OpenAI's limit."""

NO_BUILT_IN = "this service runs no built-in tools"
NO_CUSTOM = "gpt-oss calls functions, with JSON arguments"
NO_PROGRAMS = "only the model calls tools"
NO_WAITING = "a call is answered before the model goes on"

_ToolCheck = Callable[[Any, str, Spent], tuple[str, dict[str, Any]]]
"""Takes a tool, its path and what other tools have spent; returns its name and the tool rebuilt."""
_CHOICES = ("none", "auto", "required")


def chat_tools(value: Any, path: str, unused: list[str]) -> list[dict[str, Any]]:
    """Check the ``tools`` of a chat: ``{"type": "function", "function": {…}}`` each."""
    return _tools(value, path, partial(_chat_tool, unused=unused))


def response_tools(value: Any, path: str, unused: list[str]) -> list[dict[str, Any]]:
    """Check the ``tools`` of a response: ``{"type": "function", "name": …, …}`` each."""
    return _tools(value, path, partial(_response_tool, unused=unused))


def chat_tool_choice(value: Any, path: str, unused: list[str]) -> Any:
    """Check the ``tool_choice`` of a chat; whether the tool exists is checked by `require_tool`."""
    if type(value) is not dict:
        return _choice_word(value, path)
    taken = take(CHAT_CHOICE.pick(value, path), value, path, unused)
    required(required(taken, "function", path), "name", f"{path}.function")
    return taken


def response_tool_choice(value: Any, path: str, unused: list[str]) -> Any:
    """Check the ``tool_choice`` of a response; whether the tool exists is checked by `require_tool`."""
    if type(value) is not dict:
        return _choice_word(value, path)
    taken = take(RESPONSE_CHOICE.pick(value, path), value, path, unused)
    required(taken, "name", path)
    return taken


def require_tool(choice: Any, tool_names: frozenset[str]) -> None:
    """Check that the tool that ``tool_choice`` asks for is one of the request's."""
    if choice in ("none", "auto"):
        return
    if not tool_names:
        raise InvalidRequest(
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
            param="tool_choice",
        )
    if type(choice) is dict:
        wanted = _chosen(choice)
        if wanted not in tool_names:
            raise InvalidRequest(
                f"Invalid value for 'tool_choice': the tool '{wanted}' was not found in 'tools'.",
                param="tool_choice",
                code="invalid_value",
            )


def callable_tools(choice: Any, tool_names: frozenset[str]) -> frozenset[str]:
    """Return the names of the tools that the model may call under a ``tool_choice`` that has been checked."""
    if choice == "none":
        return frozenset()
    return frozenset({_chosen(choice)}) if type(choice) is dict else tool_names


def held_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tools with ``strict: true`` where the client did not say and a grammar can hold the schema.

    The engine then holds a call to an offered name and to its schema. Left alone, gpt-oss writes a malformed
    call now and then, which ends as an error.
    """
    return [_held(tool) if "name" in tool else _held_inside(tool) for tool in tools]


def response_format(value: Any, path: str, unused: list[str]) -> dict[str, Any] | None:
    """Check the ``response_format`` of a chat; None for plain text, which is the default."""
    taken = _format(CHAT_FORMAT, value, path, unused)
    if taken["type"] == "json_schema":
        _check_described(required(taken, "json_schema", path), f"{path}.json_schema")
    return None if taken["type"] == "text" else taken


def text_format(value: Any, path: str, unused: list[str]) -> dict[str, Any] | None:
    """Check the ``text.format`` of a response; None for plain text, which is the default."""
    taken = _format(TEXT_FORMAT, value, path, unused)
    if taken["type"] == "json_schema":
        _check_described(taken, path)
    return None if taken["type"] == "text" else taken


def _tools(value: Any, path: str, check: _ToolCheck) -> list[Any]:
    tools: dict[str, dict[str, Any]] = {}
    spent = Spent()
    for index, item in enumerate(array(value, path, longest=MAX_TOOLS)):
        tool_name, tool = check(item, f"{path}[{index}]", spent)
        if tool_name in tools:
            raise InvalidRequest(
                f"Invalid '{path}[{index}]': the function name '{tool_name}' is already used.",
                param=f"{path}[{index}]",
                code="invalid_value",
            )
        tools[tool_name] = tool
    return list(tools.values())


def _chosen(choice: dict[str, Any]) -> str:
    return str(choice["name"] if "name" in choice else choice["function"]["name"])


def _held(function: dict[str, Any]) -> dict[str, Any]:
    return {"strict": True, **function} if is_held(function["parameters"]) else function


def _held_inside(tool: dict[str, Any]) -> dict[str, Any]:
    return {**tool, "function": _held(tool["function"])}


def _chat_tool(value: Any, path: str, spent: Spent, *, unused: list[str]) -> tuple[str, dict[str, Any]]:
    tool = mapping(value, path)
    taken = take(CHAT_TOOLS.pick(tool, path), tool, path, unused)
    function = required(taken, "function", path)
    return _complete(function, f"{path}.function", spent), taken


def _response_tool(value: Any, path: str, spent: Spent, *, unused: list[str]) -> tuple[str, dict[str, Any]]:
    tool = mapping(value, path)
    taken = take(RESPONSE_TOOLS.pick(tool, path), tool, path, unused)
    return _complete(taken, path, spent), taken


def _complete(function: dict[str, Any], path: str, spent: Spent) -> str:
    """Check a function's parameters, none as OpenAI reads that; return its name."""
    function_name = str(required(function, "name", path))
    parameters = function.setdefault("parameters", {"type": "object", "properties": {}})
    _check_parameters(parameters, function_name, f"{path}.parameters", spent)
    return function_name


def _check_parameters(parameters: dict[str, Any], function: str, path: str, spent: Spent) -> None:
    try:
        if parameters.get("type", "object") != "object":
            raise SchemaError("schema must be a JSON Schema of 'type: \"object\"'")
        check_schema(parameters, spent)
    except SchemaError as error:
        raise InvalidRequest(
            f"Invalid schema for function '{function}': {error}.",
            param=path,
            code="invalid_function_parameters",
        ) from None


def _format(inner: Inner, value: Any, path: str, unused: list[str]) -> dict[str, Any]:
    given = mapping(value, path)
    return take(inner.pick(given, path), given, path, unused)


def _check_described(described: dict[str, Any], path: str) -> None:
    schema_name = required(described, "name", path)
    try:
        check_schema(required(described, "schema", path))
    except SchemaError as error:
        raise InvalidRequest(
            f"Invalid schema for response_format '{schema_name}': {error}.",
            param=path,
            code="invalid_json_schema",
        ) from None


def _choice_word(value: Any, path: str) -> str:
    if type(value) is not str:
        raise wrong_type(path, "one of a string or an object", value)
    if value not in _CHOICES:
        raise wrong_value(path, value, _CHOICES)
    return value


_BUILT_IN = (
    *("web_search_preview", "web_search_preview_2025_03_11", "file_search", "code_interpreter"),
    *("image_generation", "mcp", "shell", "apply_patch", "computer", "computer_use_preview"),
)
_NO_TOOLS = {
    **dict.fromkeys(_BUILT_IN, NO_BUILT_IN),
    **dict.fromkeys(("web_search", "web_search_2025_08_26", "local_shell", "tool_search"), NO_BUILT_IN),
    "programmatic_tool_calling": NO_PROGRAMS,
    "custom": NO_CUSTOM,
    "namespace": "tools have no namespaces here; list their functions",
}
_NO_CHOICES = {
    **dict.fromkeys((*_BUILT_IN, "computer_use"), NO_BUILT_IN),
    "programmatic_tool_calling": NO_PROGRAMS,
    "custom": NO_CUSTOM,
    "allowed_tools": "send only the tools that may be called",
}

_KIND = used(text)
_FUNCTION: Shape = {
    "name": used(name, "`^[a-zA-Z0-9_-]{1,64}$`."),
    "description": used(text),
    "parameters": used(mapping, "A bounded JSON Schema of type object."),
    "strict": used(boolean, "True where it is absent and a grammar can hold the schema."),
}
_NAMED: Shape = {"name": used(name)}
_SCHEMA: Shape = {
    "name": used(name),
    "description": used(string(longest=4096)),
    "schema": used(mapping, "Bounded."),
    "strict": used(boolean),
}
_PLAIN: Shape = {"type": _KIND}

CHAT_TOOLS = Inner(
    {"function": {"type": _KIND, "function": one(_FUNCTION, "")}},
    tag="type",
    refused={"custom": NO_CUSTOM},
    array=True,
)
"""The tools of a chat."""
RESPONSE_TOOLS = Inner(
    {
        "function": {
            "type": _KIND,
            **_FUNCTION,
            "async": refused(NO_WAITING, False),
            "allowed_callers": refused(NO_PROGRAMS, [], ["direct"]),
            "defer_loading": refused("the model reads all tools at once", False),
            "output_schema": ignored(mapping, "gpt-oss is not told what a tool returns."),
        }
    },
    tag="type",
    refused=_NO_TOOLS,
    array=True,
)
"""The tools of a response."""
CHAT_CHOICE = Inner(
    {"function": {"type": _KIND, "function": one(_NAMED, "")}},
    tag="type",
    refused={"custom": NO_CUSTOM, "allowed_tools": _NO_CHOICES["allowed_tools"]},
)
"""The object that a chat's ``tool_choice`` may be."""
RESPONSE_CHOICE = Inner({"function": {"type": _KIND, **_NAMED}}, tag="type", refused=_NO_CHOICES)
"""The object that a response's ``tool_choice`` may be."""
CHAT_FORMAT = Inner(
    {"text": _PLAIN, "json_object": _PLAIN, "json_schema": {"type": _KIND, "json_schema": one(_SCHEMA, "")}},
    tag="type",
)
"""The formats that a chat may ask for."""
TEXT_FORMAT = Inner(
    {"text": _PLAIN, "json_object": _PLAIN, "json_schema": {"type": _KIND, **_SCHEMA}}, tag="type"
)
"""The formats that a response may ask for."""
