"""One conversation: the body of each turn's request, and what the answers add to it. Pure, by seed."""

import random
from typing import Any, cast

from cluster.core.effort import Effort
from loadtest.live import prompts
from loadtest.live.plan import Kind, Plan
from loadtest.live.sse import Answer, ChatReader, Reader, ResponsesReader

PATHS: dict[Kind, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "tools": "/chat/completions",
}
_MOST_CALLS = 5
"""A model that calls more often gets no more results."""


class Dialogue:
    """A conversation of one kind at one effort, from its first turn to its last."""

    def __init__(self, plan: Plan, kind: Kind, rng: random.Random, *, turns: int | None = None) -> None:
        self._plan, self.kind, self._rng = plan, kind, rng
        self.effort = cast(Effort, prompts.pick(cast(dict[str, float], plan.efforts), rng))
        conversation = plan.conversation
        self._left = turns or rng.randint(conversation.min_turns, conversation.max_turns)
        self._system = prompts.system_prompt(plan, rng)
        self._said: list[dict[str, Any]] = []
        self.turn = 0
        """Number of the turn that was asked last."""
        self._calls = 0
        self._ask()

    @property
    def path(self) -> str:
        """Where its requests go, below the base URL."""
        return PATHS[self.kind]

    @property
    def over(self) -> bool:
        """Whether nothing more is asked."""
        return self._left <= 0

    def reader(self) -> Reader:
        """Return what reads an answer's stream."""
        return ResponsesReader() if self.kind == "responses" else ChatReader()

    def body(self) -> dict[str, Any]:
        """Return the next request's body."""
        self.turn += 1
        return self._responses_body() if self.kind == "responses" else self._chat_body()

    def heard(self, answer: Answer) -> None:
        """Take an answer: the next turn sends it along."""
        call = answer.call
        if call is not None:
            self._calls += 1
            if self._calls > _MOST_CALLS:
                self.end()
            function = {"name": call.name, "arguments": call.arguments}
            self._said.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": call.id, "type": "function", "function": function}],
                }
            )
            self._said.append({"role": "tool", "tool_call_id": call.id, "content": prompts.TOOL_RESULT})
            return  # the call's result is no question of the user
        self._said.append({"role": "assistant", "content": "".join(answer.text)})
        self._left -= 1
        if not self.over:
            self._ask()

    def end(self) -> None:
        """Give the conversation up."""
        self._left = 0

    def _ask(self) -> None:
        content = prompts.question(self.kind, self._plan.prompt_tokens[self.effort], self._rng)
        self._said.append({"role": "user", "content": content})

    def _chat_body(self) -> dict[str, Any]:
        system = [{"role": "system", "content": self._system}] if self._system else []
        body: dict[str, Any] = {
            "model": self._plan.model,
            "messages": [*system, *self._said],
            "reasoning_effort": self.effort,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._plan.max_output_tokens is not None:
            body["max_completion_tokens"] = self._plan.max_output_tokens
        if self.kind == "tools":
            body["tools"] = [{"type": "function", "function": prompts.TOOL}]
        return body

    def _responses_body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._plan.model,
            "input": [{"type": "message", **said} for said in self._said],
            "reasoning": {"effort": self.effort},
            "stream": True,
            "store": False,
        }
        if self._system:
            body["instructions"] = self._system
        if self._plan.max_output_tokens is not None:
            body["max_output_tokens"] = self._plan.max_output_tokens
        return body
