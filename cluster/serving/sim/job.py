"""One valid request, in the words of the engine."""

from dataclasses import dataclass, field
from typing import Any

from cluster.core.effort import Effort
from cluster.core.request import Endpoint


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation, flattened to its text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """One valid request, the same for both endpoints."""

    endpoint: Endpoint
    turns: tuple[Turn, ...]
    effort: Effort
    prompt_tokens: int
    max_tokens: int
    """Most output tokens, the rest of the context when the request names none."""
    stream: bool
    include_usage: bool
    include_reasoning: bool
    reasoning_budget: int | None
    choices: int
    tools: tuple[Tool, ...]
    tool_choice: str
    """``auto``, ``required``, ``none``, or the name of a tool."""
    named: bool
    """Whether ``tool_choice`` is the name of a tool."""
    schema: dict[str, Any] | None
    """The schema that the answer must follow; an empty one allows any object."""
    priority: int
    seed: int | None
    body: dict[str, Any] = field(repr=False)
    """The body as sent, for the fields that the answer repeats."""

    @property
    def last_user_text(self) -> str:
        """The text of the last user message; empty when there is none."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def answers_a_tool(self) -> bool:
        """Whether the conversation ends with a tool's result."""
        return bool(self.turns) and self.turns[-1].role == "tool"
