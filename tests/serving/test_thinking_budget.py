"""The reasoning budget on token ids, for both of vLLM's model runners and under its grammars.

No model and no engine. `budget_runners` says what runs of V2, which was not run on a GPU. Imports vLLM: about
10 s.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.serving.harmony_tokens import (
    ANALYSIS,
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    MESSAGE,
    RECIPIENT,
    RETURN,
    START,
)
from cluster.serving.profiles import PLUGIN

pytestmark = pytest.mark.e2e

CHECKPOINT = Path(__file__).parents[2] / ".cache" / "tiny-gptoss"
FINAL, COMMENTARY, ASSISTANT, NAME, JSON = 17196, 12606, 173781, 44580, 4108
BUDGET = 16

Tokens = list[int]


def words(count: int) -> Tokens:
    """Return so many tokens of text."""
    return list(range(1, count + 1))


def thought(length: int) -> Tokens:
    """Return a chain of thought."""
    return [CHANNEL, ANALYSIS, MESSAGE, *words(length), END]


def preamble(length: int) -> Tokens:
    """Return what a model may say before it calls a tool: a message that ends as a chain of thought does."""
    return [CHANNEL, COMMENTARY, MESSAGE, *words(length), END]


def call(length: int, channel: int = COMMENTARY) -> Tokens:
    """Return a call of a tool."""
    return [CHANNEL, channel, RECIPIENT, NAME, CONSTRAIN, JSON, MESSAGE, *words(length), CALL]


def call_by_role(length: int) -> Tokens:
    """Return the same in Harmony's other order, the recipient before the channel."""
    return [RECIPIENT, NAME, CHANNEL, ANALYSIS, CONSTRAIN, JSON, MESSAGE, *words(length), CALL]


def final(length: int) -> Tokens:
    """Return an answer."""
    return [CHANNEL, FINAL, MESSAGE, *words(length), RETURN]


ANSWERS = [
    pytest.param([thought(40), final(60)], id="answer"),
    pytest.param([thought(40), call(60)], id="call"),
    pytest.param([thought(40), call(60, ANALYSIS)], id="call on the analysis channel"),
    pytest.param([thought(40), call_by_role(60)], id="call with its recipient first"),
    pytest.param([thought(5), call(60)], id="call after a short thought"),
    pytest.param([thought(BUDGET), call(60)], id="call after a thought as long as the budget"),
    pytest.param([thought(40), preamble(60), call(60)], id="preamble and call"),
    pytest.param([thought(5), preamble(60), thought(5), call(60)], id="thoughts around a preamble"),
    pytest.param([preamble(60), thought(5), call(60)], id="preamble, thought and call"),
    pytest.param([preamble(60), thought(40), final(60)], id="preamble, long thought and answer"),
    pytest.param([thought(40), thought(40), final(60)], id="two long thoughts"),
    pytest.param([call(60)], id="call without a thought"),
    pytest.param([final(60)], id="answer without a thought"),
]


def joined(messages: Sequence[Tokens]) -> Tokens:
    """Return the tokens of an answer; the prompt has opened its first message."""
    first, *later = messages
    return [*first, *(token for message in later for token in (START, ASSISTANT, *message))]


def cut(messages: Sequence[Tokens], budget: int) -> list[Tokens]:
    """Return ``messages`` with their long thoughts cut, and nothing else."""
    opening = thought(0)[:-1]
    return [
        thought(min(len(message) - 4, budget)) if message[:3] == opening else message for message in messages
    ]


def generate(messages: Sequence[Tokens], forced: Any) -> Tokens:
    """Return what a model says that wants to say ``messages``; cut short, it goes on with the next."""
    output: Tokens = []
    for index, message in enumerate(messages):
        for wanted in message if index == 0 else (START, ASSISTANT, *message):
            token = forced(output)
            output.append(wanted if token is None else token)
            if token not in (None, wanted):
                break
    return output


@pytest.fixture(scope="module")
def runners() -> Any:
    """Import vLLM's two runners, with the plugin as an engine loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM's own, at import
        pytest.importorskip("vllm")
        from vllm.reasoning import ReasoningParserManager  # noqa: PLC0415 - the same

        ReasoningParserManager.import_reasoning_parser(str(PLUGIN))
        from tests.serving import budget_runners  # noqa: PLC0415 - imports vLLM

    return budget_runners


@pytest.fixture(params=["v1", "v2"])
def runner(request: pytest.FixtureRequest, runners: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return each of them."""
    return runners.v1 if request.param == "v1" else runners.v2(monkeypatch)


@pytest.mark.parametrize("budget", [BUDGET, 30, 100])
@pytest.mark.parametrize("messages", ANSWERS)
def test_a_budget_cuts_thoughts_and_nothing_else(runner: Any, messages: list[Tokens], budget: int) -> None:
    """A thought has as many tokens as the budget at most; calls, preambles and answers stay as they are."""
    assert generate(messages, runner(budget)) == joined(cut(messages, budget))


@pytest.mark.parametrize("at", [1, 10, 20, 50, 100, 150])
def test_a_preempted_answer_is_cut_as_any_other(runner: Any, at: int) -> None:
    """What it has said so far counts when it is resumed: in a header, a thought, a preamble or a call."""
    messages = [thought(40), preamble(60), thought(5), call(60)]
    assert generate(messages, runner(BUDGET, preempted_at=at)) == joined(cut(messages, BUDGET))


def test_what_is_replaced_is_still_wrong(runners: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """V1 as vLLM has it cuts into a call after a preamble; if it does no more, our part can go."""
    holder = runners.ThinkingBudgetStateHolder
    monkeypatch.setattr(holder, "_update_think_state", holder._update_think_state.__wrapped__)
    messages = [preamble(60), thought(5), call(60)]
    said = generate(messages, runners.v1(BUDGET))
    assert said[-1] == END
    assert len(said) < len(joined(messages))


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "parameters": SCHEMA}
TOOL, STRICT = ({"type": "function", "function": {**FUNCTION, **more}} for more in ({}, {"strict": True}))
FORMAT = {"type": "json_schema", "name": "place", "schema": SCHEMA}
CALLED = (
    '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>'
)
ANSWERED = '<|channel|>final <|constrain|>json<|message|>{"city": "Paris"}<|return|>'

GRAMMARS = [
    pytest.param("chat", {"tools": [TOOL], "tool_choice": "required"}, CALLED, id="required"),
    pytest.param(
        "chat",
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        CALLED,
        id="named",
    ),
    pytest.param("chat", {"tools": [STRICT]}, CALLED, id="auto, strict"),
    pytest.param(
        "chat",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}},
        ANSWERED,
        id="schema",
    ),
    pytest.param("chat", {"response_format": {"type": "json_object"}}, ANSWERED, id="any object"),
    pytest.param(
        "responses",
        {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"},
        CALLED,
        id="required of a response",
    ),
    pytest.param("responses", {"text": {"format": FORMAT}}, ANSWERED, id="schema of a response"),
]


class Grammars:
    """What vLLM makes of requests, by the checkpoint's tokenizer."""

    def __init__(self, vocabulary: int) -> None:
        import xgrammar  # noqa: PLC0415 - with vLLM
        from transformers import AutoTokenizer  # noqa: PLC0415 - slow

        self._tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
        info = xgrammar.TokenizerInfo.from_huggingface(self._tokenizer, vocab_size=vocabulary)
        self._compiler, self._matcher = xgrammar.GrammarCompiler(info), xgrammar.GrammarMatcher

    def tokens(self, text: str) -> Tokens:
        """Return the token ids of Harmony text, markers included."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def matcher(self, endpoint: str, asked: dict[str, Any]) -> Any:
        """Return what holds an answer to its request, as vLLM's scheduler does."""
        compiled = self._compiler.compile_structural_tag(grammar(endpoint, asked))
        return self._matcher(compiled, override_stop_tokens=[RETURN, CALL])


@pytest.fixture(scope="module")
def grammars(runners: Any) -> Grammars:
    """Load the tokenizer, once."""
    if not CHECKPOINT.exists():
        pytest.skip(f"{CHECKPOINT} is not there (`make setup` does it)")
    return Grammars(runners.VOCABULARY)


def test_the_markers_are_the_parsers(runners: Any, grammars: Grammars) -> None:
    """VLLM encodes them with this tokenizer; these tests are about their tokens."""
    from cluster.serving import reasoning_parser  # noqa: PLC0415 - imports vLLM

    assert grammars.tokens(reasoning_parser.START) == runners.OPEN == thought(0)[:-1]
    assert grammars.tokens(reasoning_parser.END) == [END]


def grammar(endpoint: str, asked: dict[str, Any]) -> str:
    """Return the grammar of a request."""
    from vllm.entrypoints.openai.chat_completion.protocol import (  # noqa: PLC0415 - the same
        ChatCompletionRequest,
    )
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest  # noqa: PLC0415 - the same
    from vllm.parser.harmony import HarmonyParser  # noqa: PLC0415 - the same
    from vllm.tool_parsers.gptoss_tool_parser import GptOssToolParser  # noqa: PLC0415 - the same

    from cluster.serving.reasoning_parser import CountedGptOssParser  # noqa: PLC0415 - the same

    class Parser(HarmonyParser):
        reasoning_parser_cls = CountedGptOssParser
        tool_parser_cls = GptOssToolParser

    kind = ChatCompletionRequest if endpoint == "chat" else ResponsesRequest
    body = {"messages": [{"role": "user", "content": "x"}]} if endpoint == "chat" else {"input": "x"}
    request: Any = kind.model_validate({"model": "m", **body, **asked})
    parser: Any = Parser(SimpleNamespace(get_vocab=dict), request.tools)  # type: ignore[no-untyped-call]
    adjusted = parser.adjust_request(request)
    return str(adjusted.structured_outputs.structural_tag)


def accepted(matcher: Any, token_ids: Iterable[int]) -> int:
    """Return how many tokens the grammar takes."""
    count = 0
    for token in token_ids:
        if not matcher.accept_token(token):
            break
        count += 1
    return count


@pytest.mark.parametrize(("endpoint", "asked", "said"), GRAMMARS)
def test_a_grammar_takes_what_a_budget_forces(
    runner: Any, grammars: Grammars, endpoint: str, asked: dict[str, Any], said: str
) -> None:
    """Each token of the cut answer is one that the grammar allows, to its end; the JSON is whole."""
    message = grammars.tokens(said)
    for length in (5, BUDGET, 40):
        got = generate([thought(length), message], runner(BUDGET))
        assert got == joined([thought(min(length, BUDGET)), message])
        matcher = grammars.matcher(endpoint, asked)
        assert accepted(matcher, got) == len(got)
        assert matcher.is_terminated()
