"""Tools are held to their schema where a grammar can hold them, unless the client said otherwise."""

from typing import Any, cast

import pytest

from cluster.core.request import Endpoint
from tests.core.requests import PARAMETERS, chat, parsed, response

FORMAT: dict[str, Any] = {"name": "city", "schema": PARAMETERS}


def tool(endpoint: Endpoint, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a function tool in the endpoint's form."""
    function = {"name": "get_weather", "parameters": parameters, **more}
    return (
        {"type": "function", "function": function} if endpoint == "chat" else {"type": "function", **function}
    )


def strict(endpoint: Endpoint, sent: dict[str, Any], **fields: Any) -> Any:
    """Return the tool's ``strict`` as the engine sees it, or None."""
    body = chat if endpoint == "chat" else response
    [seen] = parsed(endpoint, body(tools=[sent], **fields)).fields["tools"]
    return seen.get("function", seen).get("strict")


ENDPOINTS: list[Endpoint] = ["chat", "responses"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_plain_schema_is_held(endpoint: Endpoint) -> None:
    """A tool whose schema a grammar can hold becomes strict."""
    assert strict(endpoint, tool(endpoint, PARAMETERS)) is True


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_tool_without_parameters_is_held(endpoint: Endpoint) -> None:
    """A function that takes nothing is called with nothing."""
    assert strict(endpoint, tool(endpoint, {"type": "object", "properties": {}})) is True


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param({"type": "string", "pattern": "^[A-Z]{3}$"}, id="pattern"),
        pytest.param({"type": "integer", "multipleOf": 3}, id="multiple"),
        pytest.param({"oneOf": [{"type": "string"}, {"type": "null"}]}, id="oneOf"),
        pytest.param({"type": "array", "items": {"type": "string", "format": "uuid"}}, id="format inside"),
    ],
)
def test_a_schema_that_a_grammar_may_not_hold_is_left_alone(inner: dict[str, Any]) -> None:
    """A keyword that the grammar might not know leaves the tool as the client sent it."""
    assert strict("chat", tool("chat", {"type": "object", "properties": {"x": inner}})) is None


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("said", [True, False])
def test_the_clients_word_counts(endpoint: Endpoint, said: bool) -> None:
    """A client that says ``strict`` gets what it said."""
    assert strict(endpoint, tool(endpoint, PARAMETERS, strict=said)) is said


CALLABLE = {"auto": {"get_weather", "other"}, "required": {"get_weather", "other"}, "none": set[str]()}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("choice", [*CALLABLE, "other"])
def test_what_the_model_may_call(endpoint: Endpoint, choice: str) -> None:
    """Every tool, or none, or the one that is chosen."""
    body, chosen = (chat if endpoint == "chat" else response), cast(Any, choice)
    if choice == "other":
        other = {"function": {"name": "other"}} if endpoint == "chat" else {"name": "other"}
        chosen = {"type": "function", **other}
    offered = [tool(endpoint, PARAMETERS), tool(endpoint, PARAMETERS, name="other")]
    request = parsed(endpoint, body(tools=offered, tool_choice=chosen))
    assert request.callable_tools == CALLABLE.get(choice, {"other"})


def test_an_output_format_is_not_overridden() -> None:
    """Beside a JSON schema for the answer no tool becomes strict: the engine would drop the schema."""
    chat_format = {"type": "json_schema", "json_schema": FORMAT}
    assert strict("chat", tool("chat", PARAMETERS), response_format=chat_format) is None
    text = {"format": {"type": "json_schema", **FORMAT}}
    assert strict("responses", tool("responses", PARAMETERS), text=text) is None
