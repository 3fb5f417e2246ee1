"""Verify a served tiny model through its OpenAI endpoint: vLLM's own port, or the gateway.

`verify` asks and `score` judges. Every prompt is one that training never saw, the temperature is 1.0, and an
answer counts as strict when the server parsed it without an error, it ended by itself, and its text holds no
control token; where the engine returns token ids, also when openai-harmony's strict parser takes all of
them.
"""

import asyncio
import json
import statistics
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any, Literal

from openai import AsyncOpenAI, OpenAIError
from openai_harmony import (  # type: ignore[import-untyped]
    HarmonyEncodingName,
    HarmonyError,
    Role,
    StreamableParser,
    load_harmony_encoding,
)

from cluster.tinymodel.prompts import unseen_prompts

Effort = Literal["low", "medium", "high"]
Task = Literal["chat", "turns", "tool_call", "tool_answer", "schema", "budget"]
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")
BUDGET_TOKENS = 20
LEAST_STRICT, LEAST_SENSIBLE = 0.99, 0.95
"""Least share of right answers: of chats, which must only be well formed, and of the other tasks, which judge
what is said by a few dozen requests each."""


@dataclass(frozen=True)
class Answer:
    """What a request gave; `reasoning_tokens` is None where hidden, `fault` is None when strict."""

    task: Task
    effort: Effort
    text: str
    reasoning_tokens: int | None
    fault: str | None


@dataclass(frozen=True)
class Rate:
    """How many of `asked` requests gave a right answer, and the first few reasons of the others."""

    asked: int
    right: int
    faults: tuple[str, ...]

    @property
    def share(self) -> float:
        """Right answers per request, 0 to 1."""
        return self.right / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Length:
    """Reasoning tokens per answer."""

    mean: float
    p5: float
    p95: float


@dataclass(frozen=True)
class Report:
    """The verdict: rates by task and effort (`chat/low`), reasoning by effort, distinct chat answers."""

    rates: dict[str, Rate]
    reasoning: dict[Effort, Length]
    distinct_answers: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every requirement is met."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, each rate with its share."""
        value = asdict(self)
        for name, rate in self.rates.items():
            value["rates"][name]["share"] = rate.share
        return {**value, "passed": self.passed}


def score(answers: Sequence[Answer]) -> Report:
    """Judge answers: least rates, reasoning that grows with effort, distinct answers."""
    rates: dict[str, Rate] = {}
    for key in dict.fromkeys((a.task, a.effort) for a in answers):
        group = [a for a in answers if (a.task, a.effort) == key]
        faults = [a.fault for a in group if a.fault]
        rates["/".join(key)] = Rate(len(group), len(group) - len(faults), tuple(faults[:3]))
    reasoning = {effort: length for effort in EFFORTS if (length := _length(answers, effort))}
    chat = [a.text for a in answers if a.task == "chat" and not a.fault]
    distinct = len(set(chat))
    failures = [
        f"{name}: {rate.right} of {rate.asked} right"
        for name, rate in rates.items()
        if rate.share < (LEAST_STRICT if name.startswith("chat/") else LEAST_SENSIBLE)
    ]
    for lower, higher in (("low", "medium"), ("medium", "high")):
        if lower in reasoning and higher in reasoning and reasoning[lower].p95 >= reasoning[higher].p5:
            failures.append(f"reasoning at {higher} effort is not clearly longer than at {lower}")
    if chat and distinct < min(50, len(chat) // 6 + 1):
        failures.append(f"only {distinct} distinct answers in {len(chat)}")
    return Report(rates, reasoning, distinct, tuple(failures))


def _length(answers: Sequence[Answer], effort: Effort) -> Length | None:
    counts = [
        a.reasoning_tokens for a in answers if a.task == "chat" and a.effort == effort and a.reasoning_tokens
    ]
    if not counts:
        return None
    cuts = (
        statistics.quantiles(counts, n=20, method="inclusive") if len(counts) > 1 else [float(counts[0])] * 19
    )
    return Length(statistics.fmean(counts), cuts[0], cuts[-1])


def verify(
    base_url: str,
    api_key: str,
    model: str,
    *,
    prompts: int = 300,
    direct: bool = False,
    concurrency: int = 16,
) -> Report:
    """Ask a served tiny model and return the report.

    `prompts` chat answers at each effort, and a tenth as many of each other task. With `direct` the endpoint
    is vLLM's own: token ids are parsed strictly, and a reasoning budget of 20 tokens is tried (it needs a
    reasoning parser that names Harmony's markers). Errors of single requests are counted in the report,
    never raised.
    """
    return score(
        asyncio.run(_connect(base_url, api_key, model, prompts, direct=direct, concurrency=concurrency))
    )


_TOOL = {
    "type": "function",
    "function": {
        "name": "find_restaurant",
        "description": "Finds a place to eat.",
        "parameters": {
            "type": "object",
            "properties": {"cuisine": {"type": "string", "description": "The kind of food"}},
            "required": ["cuisine"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
_SCHEMAS: tuple[dict[str, Any], ...] = (
    {"answer": {"type": "string"}},
    {"city": {"type": "string"}, "population": {"type": "integer"}},
    {"done": {"type": "boolean"}, "tags": {"type": "array", "items": {"type": "string"}}},
    {
        "level": {"type": "string", "enum": ["debug", "warning", "fatal"]},
        "owner": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
            "additionalProperties": False,
        },
    },
)


@dataclass(frozen=True)
class _Server:
    client: AsyncOpenAI
    model: str
    direct: bool
    limit: asyncio.Semaphore


async def _connect(
    base_url: str, api_key: str, model: str, prompts: int, *, direct: bool, concurrency: int
) -> list[Answer]:
    async with AsyncOpenAI(base_url=base_url, api_key=api_key, timeout=300, max_retries=0) as client:
        return await _ask_all(_Server(client, model, direct, asyncio.Semaphore(concurrency)), prompts)


async def _ask_all(server: _Server, prompts: int) -> list[Answer]:
    few = max(prompts // 10, 4)
    waiting: list[Awaitable[Answer]] = []
    for seed, effort in enumerate(EFFORTS):
        waiting += [_chat(server, effort, prompt) for prompt in unseen_prompts(prompts, seed)]
        waiting += [_turns(server, effort, prompt) for prompt in unseen_prompts(few, seed + 10)]
        pairs = zip(unseen_prompts(few, seed + 20), cycle(_SCHEMAS), strict=False)
        waiting += [_schema(server, effort, prompt, schema) for prompt, schema in pairs]
        waiting += [_tool_call(server, effort, prompt) for prompt in unseen_prompts(few, seed + 30)]
        waiting += [_tool_answer(server, effort, prompt) for prompt in unseen_prompts(few, seed + 40)]
        if server.direct:
            waiting += [_budget(server, effort, prompt) for prompt in unseen_prompts(few, seed + 50)]
    return list(await asyncio.gather(*waiting))


@dataclass(frozen=True)
class _Reply:
    content: str
    calls: list[Any]
    reasoning_tokens: int | None
    fault: str | None


async def _ask(server: _Server, effort: Effort, messages: list[dict[str, Any]], **fields: Any) -> _Reply:
    extra = {"return_token_ids": True, **fields.pop("extra_body", {})} if server.direct else {}
    try:
        async with server.limit:
            completion: Any = await server.client.chat.completions.create(
                model=server.model,
                messages=messages,  # type: ignore[arg-type]
                reasoning_effort=effort,
                temperature=1.0,
                max_completion_tokens=800,
                extra_body=extra,
                **fields,
            )
    except OpenAIError as error:
        return _Reply("", [], None, f"{type(error).__name__}: {str(error)[:120]}")
    choice = completion.choices[0]
    content, calls = choice.message.content or "", choice.message.tool_calls or []
    details = completion.usage and completion.usage.completion_tokens_details
    counted = (details and details.reasoning_tokens) or None
    ids = getattr(choice, "token_ids", None)
    fault = _fault(content, calls, choice.finish_reason)
    if ids:
        counted, broken = _parse(ids)
        fault = fault or broken
    return _Reply(content, calls, counted, fault)


def _fault(content: str, calls: list[Any], finish_reason: str) -> str | None:
    if finish_reason not in ("stop", "tool_calls"):
        return f"finish_reason {finish_reason}"
    if "<|" in content:
        return "a control token in the answer"
    return None if content or calls else "no answer"


def _parse(ids: list[int]) -> tuple[int, str | None]:
    """Return the reasoning tokens of an answer's ids, and what the strict parser found wrong."""
    encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    parser = StreamableParser(encoding, Role.ASSISTANT, strict=True)
    reasoning = 0
    try:
        for token in ids:
            parser.process(token)
            reasoning += parser.current_channel == "analysis" and bool(parser.last_content_delta)
        parser.process_eos()
    except HarmonyError as error:
        return reasoning, f"strict parser: {str(error)[:80]}"
    return reasoning, None


def _user(prompt: str) -> dict[str, Any]:
    return {"role": "user", "content": prompt}


async def _chat(server: _Server, effort: Effort, prompt: str) -> Answer:
    reply = await _ask(server, effort, [_user(prompt)])
    fault = reply.fault or (
        None if f"{effort} effort" in reply.content else "the answer does not name its effort"
    )
    return Answer("chat", effort, reply.content, reply.reasoning_tokens, fault)


async def _turns(server: _Server, effort: Effort, prompt: str) -> Answer:
    history = [_user("Where is the nearest lighthouse?"), {"role": "assistant", "content": "On the cape."}]
    reply = await _ask(server, effort, [*history, _user(prompt + " beacon")])
    fault = reply.fault or (None if "beacon" in reply.content else "the answer ignores the last turn")
    return Answer("turns", effort, reply.content, reply.reasoning_tokens, fault)


async def _schema(server: _Server, effort: Effort, prompt: str, properties: dict[str, Any]) -> Answer:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
    reply = await _ask(server, effort, [_user(prompt)], response_format=wanted)
    fault = reply.fault or _object_fault(reply.content, properties)
    return Answer("schema", effort, reply.content, reply.reasoning_tokens, fault)


async def _tool_call(server: _Server, effort: Effort, prompt: str) -> Answer:
    reply = await _ask(server, effort, [_user(prompt)], tools=[_TOOL])
    arguments = reply.calls[0].function.arguments if reply.calls else ""
    return Answer(
        "tool_call",
        effort,
        arguments,
        reply.reasoning_tokens,
        reply.fault or _call_fault(reply.calls, prompt),
    )


async def _tool_answer(server: _Server, effort: Effort, prompt: str) -> Answer:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "find_restaurant", "arguments": '{"cuisine":"thai"}'},
    }
    messages = [
        _user(prompt),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"place": "Golden Lantern"}'},
    ]
    reply = await _ask(server, effort, messages, tools=[_TOOL])
    wrong = "called again" if reply.calls else "the answer ignores the result"
    fault = reply.fault or (None if "Lantern" in reply.content and not reply.calls else wrong)
    return Answer("tool_answer", effort, reply.content, reply.reasoning_tokens, fault)


async def _budget(server: _Server, effort: Effort, prompt: str) -> Answer:
    extra = {"thinking_token_budget": BUDGET_TOKENS}
    reply = await _ask(server, effort, [_user(prompt)], extra_body=extra)
    over = (reply.reasoning_tokens or 0) > BUDGET_TOKENS
    return Answer(
        "budget",
        effort,
        reply.content,
        reply.reasoning_tokens,
        reply.fault or (f"{reply.reasoning_tokens} reasoning tokens" if over else None),
    )


def _object_fault(content: str, properties: dict[str, Any]) -> str | None:
    try:
        value = json.loads(content)
    except ValueError:
        return f"not JSON: {content[:60]!r}"
    return (
        None if isinstance(value, dict) and set(value) == set(properties) else f"wrong keys: {content[:60]!r}"
    )


def _call_fault(calls: list[Any], prompt: str) -> str | None:
    if len(calls) != 1 or calls[0].function.name != "find_restaurant":
        return f"wrong call: {[c.function.name for c in calls]}"
    fault = _object_fault(calls[0].function.arguments, {"cuisine": {}})
    if fault:
        return fault
    word = str(json.loads(calls[0].function.arguments)["cuisine"]).strip()
    return None if word and word in prompt else f"{word!r} is not of the prompt"
