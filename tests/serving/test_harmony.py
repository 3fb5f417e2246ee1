"""The Harmony plugin on token ids, with vLLM's own parser and without an engine. Imports vLLM: about 10 s."""

import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.serving.checkpoint import CheckpointError, require_vocabulary
from cluster.serving.harmony_tokens import count_reasoning

pytestmark = pytest.mark.e2e


VOCABULARY = Path(
    os.environ.get("TIKTOKEN_ENCODINGS_BASE", Path(__file__).parents[2] / ".cache" / "vocabulary")
)


@pytest.fixture(scope="module")
def harmony() -> Any:
    """Import the plugin, which replaces parts of vLLM in this process."""
    try:
        require_vocabulary(VOCABULARY)
    except CheckpointError as error:
        pytest.skip(f"{error} (`make setup` does it)")
    with pytest.MonkeyPatch.context() as environment, warnings.catch_warnings():
        environment.setenv("TIKTOKEN_ENCODINGS_BASE", str(VOCABULARY))
        warnings.simplefilter("ignore")  # vLLM's own, at import
        pytest.importorskip("vllm")
        from cluster.serving import harmony as plugin  # noqa: PLC0415 - after its environment is set

        plugin.self_test()
    return plugin


@pytest.fixture
def parser(harmony: Any) -> Any:
    """Return vLLM's Harmony parser as its server makes it for each request."""
    from vllm.parser.harmony import HarmonyParser  # noqa: PLC0415 - after the plugin
    from vllm.tool_parsers.gptoss_tool_parser import GptOssToolParser  # noqa: PLC0415 - the same

    class Parser(HarmonyParser):
        reasoning_parser_cls = harmony.reasoning_parser.CountedGptOssParser
        tool_parser_cls = GptOssToolParser

    return Parser(SimpleNamespace(get_vocab=dict), None)  # type: ignore[no-untyped-call]


def ids(harmony: Any, text: str) -> list[int]:
    """Return the token ids of Harmony text, markers included."""
    return list(harmony.get_encoding().encode(text, allowed_special="all"))


def whole(parser: Any, token_ids: list[int]) -> tuple[str | None, str | None, list[tuple[str, str]]]:
    """Return reasoning, content and calls of a whole answer, as chat's non-stream path gets them."""
    reasoning, content, calls = parser.parse("", request(), model_output_token_ids=token_ids)
    return reasoning, content, [(call.name, call.arguments) for call in calls or []]


def streamed(
    parser: Any, token_ids: list[int], portions: Iterable[int] = ()
) -> tuple[str | None, str | None, list[tuple[str, str]]]:
    """Return the same, gathered from the deltas of a stream in ``portions`` tokens (default: one by one)."""
    reasoning, content = "", ""
    calls: dict[int, tuple[str, str]] = {}
    sizes = iter(portions)
    while token_ids:
        size = next(sizes, 1)
        now, token_ids = token_ids[:size], token_ids[size:]
        delta = parser.parse_delta("", now, request(), finished=not token_ids)
        if delta is None:
            continue
        reasoning += delta.reasoning or ""
        content += delta.content or ""
        for call in delta.tool_calls or []:
            name, arguments = calls.get(call.index, ("", ""))
            calls[call.index] = (
                name + (call.function.name or ""),
                arguments + (call.function.arguments or ""),
            )
    return reasoning or None, content or None, list(calls.values())


def request() -> Any:
    """Return a request that shows its reasoning."""
    return SimpleNamespace(include_reasoning=True)


THOUGHT = "<|channel|>analysis<|message|>one two three<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>Hello there<|return|>"
CALL = '<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'

CASES = [
    pytest.param(THOUGHT + FINAL, ("one two three", "Hello there", []), id="well formed"),
    pytest.param(THOUGHT + CALL, ("one two three", None, [("f", {"a": 1})]), id="tool call"),
    pytest.param(
        THOUGHT + FINAL.replace("<|return|>", "<|end|><|return|>"),
        ("one two three", "Hello there", []),
        id="a stop too many keeps the answer (vLLM 50690)",
    ),
    pytest.param(
        THOUGHT + "stray words" + FINAL,
        ("one two three", "Hello there", []),
        id="words between messages are dropped",
    ),
    pytest.param(
        "<|channel|>analysis far too many words<|message|>lost<|end|>" + FINAL,
        (None, "Hello there", []),
        id="a malformed header loses its message, not the answer",
    ),
    pytest.param(
        THOUGHT + "<|start|>assistant<|channel|>final far too many words<|message|>lost<|return|>",
        ("one two three", None, []),
        id="a malformed final header gives an empty answer, which the gateway retries",
    ),
    pytest.param(
        "<|channel|>analysis well<|message|>one two three<|end|>" + FINAL.replace("final", "final and so"),
        ("one two three", "Hello there", []),
        id="stray words in a header are no tool to call",
    ),
    pytest.param(
        THOUGHT + CALL.replace("commentary", "analysis"),
        ("one two three", None, [("f", {"a": 1})]),
        id="a call on the analysis channel (vLLM 28139)",
    ),
    pytest.param(
        THOUGHT + "<|start|>assistant<|channel|>", ("one two three", None, []), id="cut in a header"
    ),
    pytest.param("<|channel|>analysis", (None, None, []), id="cut in the first header leaks nothing"),
    pytest.param(THOUGHT[:-7], ("one two three", None, []), id="cut in the thought"),
    pytest.param(
        THOUGHT + "<|start|>assistant<|channel|>final<|message|>Hello<|constrain|> there<|return|>",
        ("one two three", "Hello there", []),
        id="a control token in the text is no text",
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
@pytest.mark.parametrize("read", [whole, streamed])
def test_answers(harmony: Any, parser: Any, read: Any, text: str, expected: Any) -> None:
    """Whole and streamed, an answer is what its well-formed messages say, and never an error."""
    reasoning, content, calls = read(parser, ids(harmony, text))
    assert (reasoning, content, [(name, json.loads(given)) for name, given in calls]) == expected


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_counts_agree_with_the_answer(harmony: Any, parser: Any, text: str, expected: Any) -> None:
    """VLLM's question after each delta is answered as a whole count would."""
    del expected
    token_ids = ids(harmony, text)
    for end in range(1, len(token_ids) + 1):
        parser.parse_delta("", token_ids[end - 1 : end], request(), finished=end == len(token_ids))
        assert parser.count_reasoning_tokens(token_ids[:end]) == count_reasoning(token_ids[:end])


@pytest.mark.parametrize("text", [THOUGHT + FINAL, THOUGHT + CALL, THOUGHT[:-7], THOUGHT + FINAL[:-10]])
def test_the_count_is_that_of_harmonys_own_parser(harmony: Any, text: str) -> None:
    """On well-formed text our counter, which cannot fail, counts what the parser calls analysis."""
    from openai_harmony import (  # type: ignore[import-untyped]  # noqa: PLC0415 - after the plugin
        Role,
        StreamableParser,
    )

    token_ids = ids(harmony, text)
    reader = StreamableParser(harmony.get_encoding(), role=Role.ASSISTANT)
    analysis = 0
    for token in token_ids:
        reader.process(token)
        analysis += reader.current_channel == "analysis" and reader.last_content_delta is not None
    assert count_reasoning(token_ids) == analysis > 0


def test_three_words_of_thought_are_three_tokens(harmony: Any, parser: Any) -> None:
    """Markers do not count: the same number that a budget would allow."""
    token_ids = ids(harmony, THOUGHT + CALL)
    whole(parser, token_ids)
    assert parser.count_reasoning_tokens(token_ids) == 3
    assert (
        harmony.reasoning_parser.CountedGptOssParser(SimpleNamespace()).count_reasoning_tokens(token_ids) == 3
    )


def test_portions_do_not_matter(harmony: Any, parser: Any) -> None:
    """The engine may send several tokens at once, across messages."""
    token_ids = ids(harmony, THOUGHT + FINAL)
    assert streamed(parser, token_ids, portions=[1, 5, 4, 2, 9]) == ("one two three", "Hello there", [])


def test_a_parser_serves_several_answers(harmony: Any, parser: Any) -> None:
    """VLLM reuses one for all answers of a request; faults of one do not reach the next."""
    bad, good = (
        ids(harmony, "<|channel|>analysis far too many words<|message|>"),
        ids(harmony, THOUGHT + FINAL),
    )
    assert whole(parser, bad) == (None, None, [])
    assert parser.count_reasoning_tokens(bad) == count_reasoning(bad)
    assert whole(parser, good) == ("one two three", "Hello there", [])
    assert parser.count_reasoning_tokens(good) == 3


def test_faults_are_counted_once_by_kind(harmony: Any, parser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of stray tokens is one fault."""
    kinds: list[str] = []
    monkeypatch.setattr(harmony, "_count_fault", kinds.append)
    whole(parser, ids(harmony, THOUGHT + "some stray words" + FINAL))
    whole(parser, ids(harmony, "<|channel|>analysis far too many words<|message|>lost<|end|>" + FINAL))
    whole(parser, ids(harmony, THOUGHT + "<|start|>assistant<|channel|>"))
    whole(parser, ids(harmony, THOUGHT + FINAL))
    assert kinds == ["between_messages", "header", "unfinished_header"]


def test_a_budget_has_its_markers(harmony: Any) -> None:
    """Without them vLLM refuses ``thinking_token_budget``; a longer end would cut into tool calls."""
    made = harmony.reasoning_parser.CountedGptOssParser(SimpleNamespace())
    assert (made.reasoning_start_str, made.reasoning_end_str) == ("<|channel|>analysis<|message|>", "<|end|>")


@pytest.mark.parametrize(
    ("given", "budget"),
    [({}, None), ({"thinking_token_budget": 20}, 20), ({"thinking_token_budget": -1}, None)],
)
def test_responses_honour_the_budget(harmony: Any, given: dict[str, int], budget: int | None) -> None:
    """As chat does, -1 for none included."""
    del harmony
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest  # noqa: PLC0415 - after the plugin

    asked = ResponsesRequest.model_validate({"input": "hi", **given})
    assert asked.to_sampling_params(100).thinking_token_budget == budget


@pytest.mark.parametrize("given", [-5, True, "20", 1.5])
def test_responses_refuse_a_bad_budget(harmony: Any, given: object) -> None:
    """With the error that vLLM turns into a 400."""
    del harmony
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest  # noqa: PLC0415 - after the plugin
    from vllm.exceptions import VLLMValidationError  # noqa: PLC0415 - the same

    asked = ResponsesRequest.model_validate({"input": "hi", "thinking_token_budget": given})
    with pytest.raises(VLLMValidationError, match="thinking_token_budget"):
        asked.to_sampling_params(100)


def test_an_unknown_channel_is_no_error(harmony: Any) -> None:
    """VLLM would answer 400 for the model's mistake; the item is left out."""
    del harmony
    from openai_harmony import Message, Role  # noqa: PLC0415 - the same
    from vllm.entrypoints.openai.responses import serving  # noqa: PLC0415 - the same

    message = Message.from_role_and_content(Role.ASSISTANT, "x").with_channel("musing")
    assert serving.harmony_to_response_output(message, frozenset()) == []  # type: ignore[attr-defined]
