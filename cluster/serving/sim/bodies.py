"""The two request bodies, as far as vLLM's models check them and the simulator reads them.

A rule between fields raises `EngineError` straight through pydantic, as vLLM's own errors do there.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cluster.serving.sim.errors import EngineError


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow")


def _budget(value: Any) -> Any:
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise EngineError(
            "`thinking_token_budget` must be a non-negative integer or -1 for unlimited.",
            param="thinking_token_budget",
        )
    return value


_Budget = Annotated[int | None, BeforeValidator(_budget)]
_Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
_OpenAiEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Sampling(_Body):
    """Fields that both endpoints share."""

    model: str | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    seed: _Int64 | None = None
    include_reasoning: bool = True
    thinking_token_budget: _Budget = None
    priority: _Int64 = 0


class _StreamOptions(_Body):
    include_usage: bool | None = False


class _Function(_Body):
    name: str
    parameters: dict[str, Any] | None = None


class _ChatTool(_Body):
    type: Literal["function"] = "function"
    function: _Function


class _NamedFunction(_Body):
    name: str


class NamedChoice(_Body):
    """A chat request's demand for one tool."""

    type: Literal["function"] = "function"
    function: _NamedFunction


class _JsonSchema(_Body):
    name: str
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class _ResponseFormat(_Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class ChatBody(Sampling):
    """The body of a chat completion."""

    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    stream_options: _StreamOptions | None = None
    tools: list[_ChatTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = "none"
    reasoning_effort: _OpenAiEffort | None = None
    response_format: _ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _consistent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("stream_options") and not data.get("stream"):
            raise EngineError(
                "Stream options can only be defined when `stream=True`.", param="stream_options"
            )
        if data.get("tools") == []:
            raise EngineError("`tools` must not be an empty array.", param="tools")
        if data.get("tool_choice") not in (None, "none") and not data.get("tools"):
            raise EngineError("When using `tool_choice`, `tools` must be set.", param="tool_choice")
        if data.get("tools") and "tool_choice" not in data:
            return {**data, "tool_choice": "auto"}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Self:
        wanted = self.response_format
        if wanted is not None and wanted.type == "json_schema" and wanted.json_schema is None:
            raise EngineError(
                "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
                param="response_format",
            )
        choice = self.tool_choice
        names = {tool.function.name for tool in self.tools or ()}
        if isinstance(choice, NamedChoice) and choice.function.name not in names:
            raise EngineError(
                "The tool specified in `tool_choice` does not match any of the specified `tools`",
                param="tool_choice",
            )
        return self


class _Reasoning(_Body):
    effort: _OpenAiEffort | None = None


class _TextFormat(_Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class _Text(_Body):
    format: _TextFormat | None = None


class _ResponsesTool(_Body):
    type: str
    name: str | None = None
    parameters: dict[str, Any] | None = None


class ResponsesBody(Sampling):
    """The body of a Responses request."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    reasoning: _Reasoning | None = None
    text: _Text | None = None
    tools: list[_ResponsesTool] = []
    tool_choice: str | dict[str, Any] = "auto"
    previous_response_id: str | None = None
    background: bool | None = False

    @model_validator(mode="before")
    @classmethod
    def _consistent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        choice, tools = data.get("tool_choice"), data.get("tools") or []
        if choice == "required" and not tools:
            raise EngineError(
                "Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice"
            )
        if isinstance(choice, dict) and choice.get("name") not in {tool.get("name") for tool in tools}:
            raise EngineError("Tool choice 'function' not found in 'tools' parameter.", param="tool_choice")
        return data
