"""Tools, tool choice and output formats of both endpoints: checked, and rebuilt from known members only."""

from collections.abc import Callable
from typing import Any

from cluster.core.checks import array, boolean, mapping, members, name, string, text
from cluster.core.invalid import InvalidRequest, missing, shown, unknown, unsupported, wrong_type, wrong_value
from cluster.core.schema import SchemaError, Spent, check_schema, is_held

MAX_TOOLS = 128
"""OpenAI's limit."""

_ToolCheck = Callable[[Any, str, Spent], tuple[str, dict[str, Any]]]
"""Takes a tool, its path and what other tools have spent; returns its name and the tool rebuilt."""
_CHOICES = ("none", "auto", "required")


def chat_tools(value: Any, path: str) -> list[dict[str, Any]]:
    """Check the ``tools`` of a chat: ``{"type": "function", "function": {…}}`` each."""
    return _tools(value, path, _chat_tool)


def response_tools(value: Any, path: str) -> list[dict[str, Any]]:
    """Check the ``tools`` of a response: ``{"type": "function", "name": …, …}`` each."""
    return _tools(value, path, _response_tool)


def chat_tool_choice(value: Any, path: str) -> Any:
    """Check the ``tool_choice`` of a chat; whether the tool exists is checked by `require_tool`."""
    if type(value) is not dict:
        return _choice_word(value, path)
    function = mapping(_function_only(value, path, "function").get("function"), f"{path}.function")
    return {"type": "function", "function": {"name": _required_name(function, f"{path}.function")}}


def response_tool_choice(value: Any, path: str) -> Any:
    """Check the ``tool_choice`` of a response; whether the tool exists is checked by `require_tool`."""
    if type(value) is not dict:
        return _choice_word(value, path)
    return {"type": "function", "name": _required_name(_function_only(value, path, "name"), path)}


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
        wanted = choice["name"] if "name" in choice else choice["function"]["name"]
        if wanted not in tool_names:
            raise InvalidRequest(
                f"Invalid value for 'tool_choice': the tool '{wanted}' was not found in 'tools'.",
                param="tool_choice",
                code="invalid_value",
            )


def held_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tools with ``strict: true`` where the client did not say and a grammar can hold the schema.

    The engine then holds a call to an offered name and to its schema. Left alone, gpt-oss writes a malformed
    call now and then, which ends as an error.
    """
    return [_held(tool) if "name" in tool else _held_inside(tool) for tool in tools]


def response_format(value: Any, path: str) -> dict[str, Any] | None:
    """Check the ``response_format`` of a chat; None for plain text, which is the default."""
    inner = mapping(value, path)
    if inner.get("type") != "json_schema":
        return _plain_format(inner, path)
    _known(inner, path, ("type", "json_schema"))
    if inner.get("json_schema") is None:
        raise missing(f"{path}.json_schema")
    return {"type": "json_schema", "json_schema": _json_schema(inner["json_schema"], f"{path}.json_schema")}


def text_format(value: Any, path: str) -> dict[str, Any] | None:
    """Check the ``text.format`` of a response; None for plain text, which is the default."""
    inner = mapping(value, path)
    if inner.get("type") != "json_schema":
        return _plain_format(inner, path)
    schema = {key: item for key, item in inner.items() if key != "type"}
    return {"type": "json_schema", **_json_schema(schema, path)}


def _tools(
    value: Any, path: str, check: Callable[[Any, str, Spent], tuple[str, dict[str, Any]]]
) -> list[Any]:
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


def _held(function: dict[str, Any]) -> dict[str, Any]:
    return {"strict": True, **function} if is_held(function["parameters"]) else function


def _held_inside(tool: dict[str, Any]) -> dict[str, Any]:
    return {**tool, "function": _held(tool["function"])}


def _chat_tool(value: Any, path: str, spent: Spent) -> tuple[str, dict[str, Any]]:
    tool = _function_only(value, path, "function")
    if tool.get("function") is None:
        raise missing(f"{path}.function")
    function = _function(tool["function"], f"{path}.function", spent)
    return function["name"], {"type": "function", "function": function}


def _response_tool(value: Any, path: str, spent: Spent) -> tuple[str, dict[str, Any]]:
    tool = mapping(value, path)
    _only_type(tool, path)
    function = _function({key: item for key, item in tool.items() if key != "type"}, path, spent)
    return function["name"], {"type": "function", **function}


def _function(value: Any, path: str, spent: Spent) -> dict[str, Any]:
    function: dict[str, Any] = _FUNCTION(value, path)
    _required_name(function, path)
    for key in ("async", "allowed_callers", "defer_loading", "output_schema"):
        if function.pop(key, None):
            raise unsupported(f"{path}.{key}", "this service calls tools in turn and returns their calls")
    parameters = function.setdefault("parameters", {"type": "object", "properties": {}})  # as OpenAI reads it
    _check_parameters(parameters, function["name"], f"{path}.parameters", spent)
    return function


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


def _json_schema(value: Any, path: str) -> dict[str, Any]:
    described: dict[str, Any] = _JSON_SCHEMA(value, path)
    schema_name = _required_name(described, path)
    if "schema" not in described:
        raise missing(f"{path}.schema")
    try:
        check_schema(described["schema"])
    except SchemaError as error:
        raise InvalidRequest(
            f"Invalid schema for response_format '{schema_name}': {error}.",
            param=path,
            code="invalid_json_schema",
        ) from None
    return described


def _plain_format(inner: dict[str, Any], path: str) -> dict[str, Any] | None:
    _known(inner, path, ("type",))
    if "type" not in inner:
        raise missing(f"{path}.type")
    kind = text(inner["type"], f"{path}.type")
    if kind not in ("text", "json_object"):
        raise wrong_value(f"{path}.type", kind, ("text", "json_object", "json_schema"))
    return None if kind == "text" else {"type": kind}


def _choice_word(value: Any, path: str) -> str:
    if type(value) is not str:
        raise wrong_type(path, "one of a string or an object", value)
    if value not in _CHOICES:
        raise wrong_value(path, value, _CHOICES)
    return value


def _function_only(value: Any, path: str, member: str) -> dict[str, Any]:
    inner = mapping(value, path)
    _only_type(inner, path)
    _known(inner, path, ("type", member))
    return inner


def _only_type(inner: dict[str, Any], path: str) -> None:
    """Check that a tool, or the choice of one, is of type ``function``."""
    if "type" not in inner:
        raise missing(f"{path}.type")
    kind = text(inner["type"], f"{path}.type")
    if kind != "function":
        raise InvalidRequest(
            f"Invalid value: '{shown(kind)}'. Only tools of type 'function' are supported: this service runs "
            "no built-in tools.",
            param=f"{path}.type",
            code="invalid_value",
        )


def _known(inner: dict[str, Any], path: str, names: tuple[str, ...]) -> None:
    for key in inner:
        if key not in names:
            raise unknown(f"{path}.{key}")


def _required_name(inner: dict[str, Any], path: str) -> str:
    if inner.get("name") is None:
        raise missing(f"{path}.name")
    return name(inner["name"], f"{path}.name")


def _anything(value: Any, path: str) -> Any:  # noqa: ARG001  the form of a check
    return value


_FUNCTION = members(
    {
        "name": name,
        "description": text,
        "parameters": mapping,
        "strict": boolean,
        "async": _anything,
        "allowed_callers": _anything,
        "defer_loading": _anything,
        "output_schema": _anything,
    }
)
_JSON_SCHEMA = members(
    {"name": name, "description": string(longest=4096), "schema": mapping, "strict": boolean}
)
