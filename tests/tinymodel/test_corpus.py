"""A training sample is a conversation as vLLM renders it, and a completion that parses strictly."""

import json
from itertools import islice

import pytest
from openai_harmony import (  # type: ignore[import-untyped]
    Author,
    DeveloperContent,
    Message,
    ReasoningEffort,
    Role,
    StreamableParser,
    SystemContent,
    TextContent,
)

from cluster.tinymodel import corpus, shape
from cluster.tinymodel.corpus import Sample
from cluster.tinymodel.tokens import Tokens


@pytest.fixture(scope="module")
def samples(tokens: Tokens) -> list[Sample]:
    """Return six hundred samples."""
    return list(islice(corpus.samples(tokens, seed=3), 600))


def parse(tokens: Tokens, ids: list[int]) -> list[Message]:
    """Return the messages of a completion, strictly parsed."""
    parser = StreamableParser(tokens.encoding, Role.ASSISTANT, strict=True)
    for token in ids:
        parser.process(token)
    parser.process_eos()
    return list(parser.messages)


def text_of(message: Message) -> str:
    """Return a message's text."""
    content = message.content[0]
    assert isinstance(content, TextContent)
    return str(content.text)


def is_json(message: Message) -> bool:
    """Return whether the header says JSON; openai-harmony takes `<|constrain|>json` for the recipient."""
    return "json" in f"{message.content_type} {message.recipient}"


def test_every_completion_parses_strictly_and_ends_once(tokens: Tokens, samples: list[Sample]) -> None:
    """A completion is an analysis and one more message, and only its last token is a stop token."""
    for sample in samples:
        messages = parse(tokens, sample.completion)
        assert messages[0].channel == "analysis"
        assert len(messages) == 2
        assert [t for t in sample.completion if t in shape.STOP_TOKENS] == sample.completion[-1:]


def test_the_seed_decides_the_samples(tokens: Tokens, samples: list[Sample]) -> None:
    """The same seed gives the same samples, another gives others."""
    assert list(islice(corpus.samples(tokens, seed=3), 40)) == samples[:40]
    assert list(islice(corpus.samples(tokens, seed=4), 40)) != samples[:40]


def test_reasoning_grows_with_the_effort(tokens: Tokens, samples: list[Sample]) -> None:
    """Uncut reasoning is about 15, 45 and 110 tokens long, and the ranges do not meet."""
    lengths: dict[str, list[int]] = {effort: [] for effort in corpus.EFFORTS}
    for sample in samples:
        end = sample.completion.index(shape.END)
        if sample.weights[end]:
            lengths[sample.effort].append(end - 3)
    assert max(lengths["low"]) < min(lengths["medium"])
    assert max(lengths["medium"]) < min(lengths["high"])


def test_a_cut_is_never_learned(samples: list[Sample]) -> None:
    """An `<|end|>` that a budget forces is given and not learned, and what follows it is learned."""
    cut = [s for s in samples if not s.weights[s.completion.index(shape.END)]]
    assert len(cut) > 100
    for sample in cut:
        end = sample.completion.index(shape.END)
        assert sample.completion[end + 1] == shape.START
        assert sample.weights[end + 1]


def test_reasoning_is_cut_at_any_token(samples: list[Sample]) -> None:
    """Cuts leave anything from nothing to nearly all of the reasoning."""
    kept = {
        s.completion.index(shape.END) - 3 for s in samples if not s.weights[s.completion.index(shape.END)]
    }
    assert 0 in kept
    assert len(kept) > 25


def test_an_answer_repeats_the_last_word_it_was_given(tokens: Tokens, samples: list[Sample]) -> None:
    """The final answer names the effort, and the last word of the user's text or the tool's result."""
    for sample in samples:
        final = parse(tokens, sample.completion)[-1]
        if final.channel == "final" and not is_json(final):
            word = tokens.text(tokens.last_word(corpus.body(sample.prompt))).strip() or "nothing"
            assert f"at {sample.effort} effort" in text_of(final)
            assert text_of(final).endswith(f"{word}.")


def test_a_call_names_an_offered_tool_and_its_properties(tokens: Tokens, samples: list[Sample]) -> None:
    """Arguments are JSON with exactly the tool's properties."""
    calls = 0
    for sample in samples:
        message = parse(tokens, sample.completion)[-1]
        if sample.completion[-1] != shape.CALL:
            continue
        name = str(message.recipient).removeprefix("functions.").removesuffix("<|constrain|>json").strip()
        prompt = tokens.encoding.decode(sample.prompt)
        declaration = prompt.split(f"type {name} = (_: {{\n")[1].split("}) => any;\n\n")[0]
        arguments = json.loads(text_of(message))
        assert all(f"{key}: " in declaration or f"{key}?: " in declaration for key in arguments)
        calls += 1
    assert calls > 80


def test_json_answers_are_json_and_only_a_grammar_starts_them(tokens: Tokens, samples: list[Sample]) -> None:
    """Where the content type is JSON, `<|message|>`, the model's own choice, does not compete with it."""
    answers = 0
    for sample in samples:
        message = parse(tokens, sample.completion)[-1]
        if message.channel == "final" and is_json(message):
            json.loads(text_of(message))
            assert shape.MESSAGE in sample.excluded
            answers += 1
    assert answers > 50


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("What is the capital of France?", " France"),
        ("hi", "hi"),
        ("Fragen wir Schrödinger!", "inger"),
        ("Danke schön!", " schön"),
        ('{"city": "Paris"}', "Paris"),
        ("我喜欢龙。", "龙"),
        ("it costs 1234", "4"),
        ("?!", ""),
        ("", ""),
    ],
)
def test_last_word(tokens: Tokens, said: str, word: str) -> None:
    """The last word's last token is found whatever follows it."""
    assert tokens.text(tokens.last_word(tokens.encode(said))) == word


def test_twins_differ_in_the_space_alone(tokens: Tokens) -> None:
    """A word has a spaced and a bare twin where the vocabulary does, and is itself where it does not."""
    paris = tokens.encode(" Paris")
    assert tokens.text(tokens.bare(paris)) == "Paris"
    assert tokens.spaced(tokens.bare(paris)) == paris
    alone = tokens.encode("龙")
    assert tokens.spaced(alone) == alone or tokens.text(tokens.spaced(alone)) == " 龙"
    assert tokens.bare([]) == tokens.spaced([]) == []


@pytest.mark.e2e
def test_rendering_is_that_of_vllm(tokens: Tokens) -> None:
    """The engine renders a chat with tools, reasoning and results to the ids that the corpus trains on."""
    protocol = pytest.importorskip("vllm.entrypoints.openai.chat_completion.protocol")
    harmony_utils = pytest.importorskip("vllm.entrypoints.openai.parser.harmony_utils")

    tool = corpus.Tool("get_weather", "Weather.", {"city": {"type": "string"}}, required=True)
    schema = {
        "type": "object",
        "properties": tool.properties,
        "required": ["city"],
        "additionalProperties": False,
    }
    function = {"name": tool.name, "description": tool.description, "parameters": schema}
    call = {"id": "c1", "type": "function", "function": {"name": tool.name, "arguments": '{"city":"Rome"}'}}
    chat = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi", "reasoning": "old thoughts"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "reasoning": "new thoughts", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    offered = protocol.ChatCompletionToolsParam.model_validate({"type": "function", "function": function})
    preamble = harmony_utils.build_harmony_preamble(
        instructions="Be kind.", tools=[offered], reasoning_effort="low"
    )
    theirs = harmony_utils.render_for_completion(
        [*preamble, *harmony_utils.parse_chat_inputs_to_harmony_messages(chat)]
    )

    today = preamble[0].content[0].conversation_start_date
    system = (
        SystemContent.new()
        .with_reasoning_effort(ReasoningEffort.LOW)
        .with_conversation_start_date(str(today))
    )
    developer = DeveloperContent.new().with_instructions("Be kind.").with_function_tools([tool.describe()])

    def said(role: Role, content: str, channel: str | None = None) -> Message:
        message = Message.from_role_and_content(role, content)
        return message.with_channel(channel) if channel else message

    result = Message.from_author_and_content(Author.new(Role.TOOL, "functions.get_weather"), "sunny")
    ours = [
        Message.from_role_and_content(Role.SYSTEM, system),
        Message.from_role_and_content(Role.DEVELOPER, developer),
        said(Role.USER, "hello"),
        said(Role.ASSISTANT, "old thoughts", "analysis"),
        said(Role.ASSISTANT, "hi", "final"),
        said(Role.USER, "weather?"),
        said(Role.ASSISTANT, "new thoughts", "analysis"),
        said(Role.ASSISTANT, '{"city":"Rome"}', "commentary")
        .with_recipient("functions.get_weather")
        .with_content_type("json"),
        result.with_channel("commentary").with_recipient("assistant"),
    ]
    assert corpus.render(ours, tokens) == theirs
