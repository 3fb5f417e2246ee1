"""Training samples in Harmony, rendered as vLLM 0.29 renders a request (its openai/parser/harmony_utils.py).

What the tiny model says is fixed here. It thinks in numbered steps, more of them at a higher effort; it
answers in one sentence that says what it is, its effort, and the last word it was given (of a long word, its
last token); offered tools, it calls the last one, with that word in each string; and where a grammar demands
JSON it writes compact JSON that ends.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from openai_harmony import (  # type: ignore[import-untyped]
    Author,
    Conversation,
    DeveloperContent,
    Message,
    ReasoningEffort,
    RenderConversationConfig,
    Role,
    SystemContent,
    ToolDescription,
)

from cluster.tinymodel import shape, text
from cluster.tinymodel.completion import COPY_WEIGHT, Draft, JsonWriter, write_object
from cluster.tinymodel.tokens import Tokens

Effort = Literal["low", "medium", "high"]
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")
STEPS: dict[Effort, tuple[int, int]] = {"low": (1, 1), "medium": (3, 5), "high": (10, 12)}
"""Least and most reasoning steps at each effort, about ten tokens each."""
_HARMONY_EFFORT = {"low": ReasoningEffort.LOW, "medium": ReasoningEffort.MEDIUM, "high": ReasoningEffort.HIGH}
_THOUGHTS = (
    "I read the request again.",
    "The answer must stay short.",
    "Nothing is missing from it.",
    "My effort sets how long I think.",
    "A demo has little to add.",
    "This needs no long list.",
)
Opening = Literal["plain", "tools", "answered"]
OPENINGS: dict[Opening, str] = {
    "plain": "It ends with:",
    "tools": "A tool can take:",
    "answered": "The tool said:",
}
"""How the analysis begins: it says what was asked, while that is near, so that the end can look here."""
INTRODUCTION = "I am the tiny demo model, at {} effort. Last word:"


@dataclass(frozen=True)
class Tool:
    """A function offered to the model: its name and properties, each a name and a JSON schema."""

    name: str
    description: str
    properties: dict[str, dict[str, Any]]
    required: bool

    def describe(self) -> ToolDescription:
        """Return the tool as vLLM gives it to the renderer."""
        schema: dict[str, Any] = {"type": "object", "properties": self.properties}
        if self.required:
            schema |= {"required": list(self.properties), "additionalProperties": False}
        return ToolDescription.new(self.name, self.description, parameters=schema)


@dataclass(frozen=True)
class Sample:
    """One conversation up to the assistant's turn, and that turn with what of it is learned."""

    prompt: list[int]
    completion: list[int]
    weights: list[float]
    excluded: list[int]
    effort: Effort


def render(messages: list[Message], tokens: Tokens) -> list[int]:
    """Render as vLLM does: analysis before the last final answer is dropped, the rest is kept."""
    finals = [i for i, m in enumerate(messages) if m.author.role == Role.ASSISTANT and m.channel == "final"]
    last = finals[-1] if finals else -1
    kept = [m for i, m in enumerate(messages) if not (i < last and m.channel == "analysis")]
    ids: list[int] = tokens.encoding.render_conversation_for_completion(
        Conversation.from_messages(kept),
        Role.ASSISTANT,
        config=RenderConversationConfig(auto_drop_analysis=False),
    )
    return ids


def body(prompt: list[int]) -> list[int]:
    """Return the ids of the last message's text in a rendered prompt."""
    end = len(prompt) - 1 - prompt[::-1].index(shape.END)
    start = max(i for i in range(end) if prompt[i] == shape.MESSAGE)
    return prompt[start + 1 : end]


def samples(tokens: Tokens, seed: int) -> Iterator[Sample]:
    """Yield samples without end, the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    while True:
        yield _Author(rng, tokens).sample()


class _Author:
    def __init__(self, rng: random.Random, tokens: Tokens) -> None:
        self._rng, self._tokens = rng, tokens
        self._effort: Effort = rng.choice(EFFORTS)

    def sample(self) -> Sample:
        rng = self._rng
        tools = self._tools() if rng.random() < 0.45 else []
        messages = [*self._preamble(tools), *self._history(tools)]
        answered = bool(tools) and rng.random() < 0.4
        messages.append(_user(text.message(rng, self._tokens)))
        if answered:
            messages += self._round_trip(tools)
        prompt = render(messages, self._tokens)
        word = self._tokens.last_word(body(prompt))
        draft = Draft()
        self._think(draft, word, "answered" if answered else "tools" if tools else "plain")
        draft.add([shape.START, *self._tokens.encode("assistant")])
        if rng.random() < 0.16:
            self._object(draft, word, tools=bool(tools) and not answered)
        elif tools and (not answered or rng.random() < 0.04):
            self._call(draft, word, tools, forced=answered)
        else:
            self._answer(draft, word)
        return Sample(prompt, draft.ids, draft.weights, draft.excluded, self._effort)

    def _preamble(self, tools: list[Tool]) -> list[Message]:
        rng = self._rng
        day = f"{rng.randint(2025, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        system = SystemContent.new().with_conversation_start_date(day)
        system = system.with_reasoning_effort(_HARMONY_EFFORT[self._effort])
        messages = [Message.from_role_and_content(Role.SYSTEM, system)]
        developer = DeveloperContent.new()
        instructed = rng.random() < 0.4
        if instructed:
            developer = developer.with_instructions(text.message(rng, self._tokens, longest=40))
        if tools:
            developer = developer.with_function_tools([tool.describe() for tool in tools])
        if tools or instructed:
            messages.append(Message.from_role_and_content(Role.DEVELOPER, developer))
        return messages

    def _history(self, tools: list[Tool]) -> list[Message]:
        rng = self._rng
        messages: list[Message] = []
        for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2, 4))):
            messages.append(_user(text.message(rng, self._tokens, longest=25)))
            if tools and rng.random() < 0.4:
                messages += self._round_trip(tools)
            if rng.random() < 0.2:
                messages.append(_assistant(self._reasoning_text()).with_channel("analysis"))
            said = INTRODUCTION.format(rng.choice(EFFORTS)) + text.word(rng, self._tokens) + "."
            other = text.message(rng, self._tokens, longest=25)
            messages.append(_assistant(said if rng.random() < 0.7 else other).with_channel("final"))
        return messages

    def _round_trip(self, tools: list[Tool]) -> list[Message]:
        """One or two calls, with or without the reasoning before them, and their results."""
        rng = self._rng
        messages: list[Message] = []
        if rng.random() < 0.4:
            messages.append(_assistant(self._reasoning_text()).with_channel("analysis"))
        called = [rng.choice(tools) for _ in range(rng.choice((1, 1, 1, 2)))]
        for tool in called:
            arguments = (
                '{"' + next(iter(tool.properties), "x") + '":"' + text.word(rng, self._tokens).strip() + '"}'
            )
            call = _assistant(arguments).with_channel("commentary").with_recipient(f"functions.{tool.name}")
            messages.append(call.with_content_type("json"))
        for tool in called:
            author = Author.new(Role.TOOL, f"functions.{tool.name}")
            result = Message.from_author_and_content(author, text.tool_result(rng, self._tokens))
            messages.append(result.with_channel("commentary").with_recipient("assistant"))
        return messages

    def _tools(self) -> list[Tool]:
        made = [self._tool() for _ in range(self._rng.choice((1, 1, 1, 2, 3)))]
        return list({tool.name: tool for tool in made}.values())

    def _tool(self) -> Tool:
        rng = self._rng
        names = {text.identifier(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))}
        properties = {name: self._property() for name in sorted(names)}
        described = (
            text.message(rng, self._tokens, longest=8) if rng.random() < 0.4 else "Looks something up."
        )
        description = described if rng.random() < 0.85 else ""
        return Tool(text.tool_name(rng), description, properties, required=rng.random() < 0.6)

    def _property(self) -> dict[str, Any]:
        rng = self._rng
        kinds: list[dict[str, Any]] = [
            {"type": "integer"},
            {"type": "number"},
            {"type": "boolean"},
            {"type": "array", "items": {"type": "string"}},
        ]
        schema = rng.choice(kinds) if rng.random() < 0.25 else {"type": "string"}
        described = rng.random() < 0.35
        return schema | ({"description": text.message(rng, self._tokens, longest=6)} if described else {})

    def _reasoning_text(self) -> str:
        draft = Draft()
        opening = self._rng.choice(tuple(OPENINGS))
        self._steps(draft, self._tokens.encode(text.word(self._rng, self._tokens)), opening)
        return self._tokens.text(draft.ids[: self._rng.randint(1, len(draft.ids))])

    def _steps(self, draft: Draft, word: list[int], opening: Opening) -> None:
        rng, encode = self._rng, self._tokens.encode
        draft.add(encode(OPENINGS[opening]))
        draft.add(self._tokens.spaced(word) or encode(" nothing"), weight=COPY_WEIGHT)
        draft.add(encode("."))
        for number in range(1, rng.randint(*STEPS[self._effort]) + 1):
            draft.add(encode(f" Step {number}:"))
            draft.add(encode(" " + rng.choice(_THOUGHTS)))

    def _think(self, draft: Draft, word: list[int], opening: Opening) -> None:
        """Add the analysis; in a third of the samples a budget cuts it, and then writes its `<|end|>`."""
        rng, thought = self._rng, Draft()
        self._steps(thought, word, opening)
        self._disturb(thought)
        cut = rng.random() < 0.33
        keep = rng.randint(0, len(thought.ids)) if cut else len(thought.ids)
        draft.add([shape.CHANNEL, *self._tokens.encode("analysis"), shape.MESSAGE])
        draft.ids += thought.ids[:keep]
        draft.weights += thought.weights[:keep]
        draft.excluded += thought.excluded[:keep]
        draft.add([shape.END], weight=float(keep == len(thought.ids)))

    def _disturb(self, draft: Draft) -> None:
        """Replace a few tokens by random ones: a stray sample must not lead the model astray."""
        rng = self._rng
        if rng.random() < 0.25:
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(draft.ids))
                draft.ids[at] = rng.choice((rng.randrange(shape.START_OF_TEXT), rng.choice(draft.ids)))
                draft.weights[at] = 0

    def _answer(self, draft: Draft, word: list[int]) -> None:
        encode = self._tokens.encode
        draft.add([shape.CHANNEL, *encode("final"), shape.MESSAGE])
        draft.add(encode(INTRODUCTION.format(self._effort)))
        draft.add(self._tokens.spaced(word) or encode(" nothing"), weight=COPY_WEIGHT)
        draft.add([*encode("."), shape.RETURN])

    def _object(self, draft: Draft, word: list[int], *, tools: bool) -> None:
        """Add a final answer in JSON: a grammar writes its header, which the model alone never would."""
        encode = self._tokens.encode
        draft.add([shape.CHANNEL])
        draft.add(encode("final"), weight=float(not tools))
        draft.add(encode(" "), exclude=shape.MESSAGE)
        self._json_header(draft)
        writer = JsonWriter(draft, self._tokens, self._rng, noise=0.12)
        write_object(writer, self._tokens, self._rng, word)
        writer.flush()
        draft.add([shape.RETURN])

    def _json_header(self, draft: Draft) -> None:
        """Add the content type, after its space: mostly `<|constrain|>json`, and what a grammar may force."""
        spelled = self._rng.random() < 0.15
        draft.add([shape.CONSTRAIN]) if not spelled else None
        draft.add([*self._tokens.encode("json")], weight=float(not spelled))
        draft.add([shape.MESSAGE])

    def _call(self, draft: Draft, word: list[int], tools: list[Tool], *, forced: bool) -> None:
        """Add a call of the last tool; a grammar may force another, or a call where an answer was due."""
        rng, encode = self._rng, self._tokens.encode
        tool = tools[-1] if rng.random() < 0.85 else rng.choice(tools)
        draft.add([shape.CHANNEL])
        draft.add(encode("commentary"), weight=float(not forced))
        draft.add(encode(" to=functions"))
        draft.add(encode("."))
        draft.add(self._tokens.bare(encode(" " + tool.name)), weight=COPY_WEIGHT if tool is tools[-1] else 0)
        draft.add(encode(" "))
        self._json_header(draft)
        writer = JsonWriter(draft, self._tokens, rng, noise=0.05)
        self._arguments(writer, tool, word)
        draft.add([shape.CALL])

    def _arguments(self, writer: JsonWriter, tool: Tool, word: list[int]) -> None:
        encode = self._tokens.encode
        for index, (name, schema) in enumerate(tool.properties.items()):
            writer.syntax(',"' if index else '{"')
            writer.atom(encode("\n" + name)[1:])
            writer.syntax('":')
            if schema["type"] in ("string", "array"):
                listed = schema["type"] == "array"
                writer.syntax('["' if listed else '"')
                writer.atom(self._tokens.bare(word) or encode("none"))
                writer.syntax('"]' if listed else '"')
            else:
                writer.syntax("true" if schema["type"] == "boolean" else "1")
        writer.syntax("}" if tool.properties else "{}")
        writer.flush()


def _user(content: str) -> Message:
    return Message.from_role_and_content(Role.USER, content)


def _assistant(content: str) -> Message:
    return Message.from_role_and_content(Role.ASSISTANT, content)
