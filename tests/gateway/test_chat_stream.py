"""What of a chat stream reaches its client."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.accounting import Usage
from cluster.gateway.asked import Asked
from cluster.gateway.chat_stream import ChatStream
from cluster.gateway.http_errors import EngineFailed, HarmonyFault, Overloaded, RequestFailed
from cluster.gateway.sse import EventSplitter
from tests.gateway.upstream import DONE, ROLE, chunk, data, usage_chunk

FINISH = chunk({}, finish="stop")


def filtered(
    *events: bytes, see: bool = False, usage: bool = False, choices: int = 1
) -> tuple[bytes, ChatStream]:
    """Return what passes of ``events``, and the filter."""
    seen = ChatStream(Asked(see, usage, choices, max_output_tokens=100, tools=frozenset({"f"})))
    out = b""
    for event in events:
        seen.feed(event)
        out += seen.take()
    return out, seen


def deltas(out: bytes) -> list[dict[str, Any]]:
    """Return the deltas in ``out``."""
    events = [event.removeprefix(b"data: ") for event in EventSplitter().feed(out)]
    chunks = [json.loads(event) for event in events if event.startswith(b"{")]
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def text(out: bytes) -> str:
    """Return the content in ``out``, put together."""
    return "".join(delta.get("content") or "" for delta in deltas(out))


def test_content_passes_as_it_is() -> None:
    """Content, finish and the end pass byte by byte, usage and comments do not; the role names the tier."""
    words = [chunk({"content": word}) for word in ("Hel", "lo", ' "reasoning" \n\n data: ')]
    out, seen = filtered(ROLE, b": usage p=1 r=1 a=0\n\n", *words, FINISH, usage_chunk(), DONE)
    opening = ROLE.removesuffix(b"}\n\n") + b',"service_tier":"default"}\n\n'
    assert out == b"".join([opening, *words, FINISH, DONE])
    assert seen.usage == Usage(prompt=10, reasoning=3, answer=2)
    seen.end()


def test_the_role_waits_for_what_follows() -> None:
    """The opening is held back, so that a failure after it still has its own status."""
    out, seen = filtered(ROLE)
    assert out == b""
    assert seen.started
    assert not seen.answered


def test_usage_comes_only_when_asked_for() -> None:
    """A client that asked for usage gets the chunk as it is."""
    asked, _ = filtered(chunk({"content": "a"}), FINISH, usage_chunk(), DONE, usage=True)
    unasked, _ = filtered(chunk({"content": "a"}), FINISH, usage_chunk(), DONE)
    assert b'"usage"' in asked
    assert b'"usage"' not in unasked


def test_usage_inside_a_chunk_is_removed_too() -> None:
    """Usage beside content is tapped and taken out."""
    event = data({"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"prompt_tokens": 5}})
    out, seen = filtered(event)
    assert text(out) == "a"
    assert b'"usage"' not in out
    assert seen.usage == Usage(prompt=5)


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_never_reaches_a_client_that_may_not_see_it(key: str) -> None:
    """Reasoning deltas are dropped, and null reasoning keys removed from the others."""
    out, _ = filtered(
        chunk({key: "SECRET"}), chunk({"content": "a", key: None}), chunk({key: "SECRET"}, finish="length")
    )
    assert b"SECRET" not in out
    assert b"reasoning" not in out
    assert deltas(out) == [{"content": "a"}, {}]


def test_reasoning_reaches_a_client_that_may_see_it() -> None:
    """Reasoning passes by policy."""
    out, _ = filtered(ROLE, chunk({"reasoning": "because"}), see=True)
    assert b"because" in out


@pytest.mark.parametrize("pieces", [
    ["<|end|>"], ["a<|", "end|>"], ["<", "|", "start", "|", ">"], ["x<|reserved_", "200013|>"],
    ["<|channel|>analysis"],
])  # fmt: skip
def test_control_tokens_never_reach_a_client(pieces: list[str]) -> None:
    """A control token, also split over events, ends the stream before any of it has passed."""
    _, seen = filtered()
    out = b""
    with pytest.raises(HarmonyFault) as caught:
        for piece in ["good ", *pieces]:
            seen.feed(chunk({"content": piece}))
            out += seen.take()
    assert caught.value.kind == "control_token"
    assert "<" not in text(out)


@given(st.lists(st.integers(0, 40), max_size=6))
def test_a_control_token_is_found_wherever_it_is_cut(cuts: list[int]) -> None:
    """However the text is cut into deltas, nothing of the token passes."""
    whole = "F# has x <| y; then <|start|>assistant"
    edges = [0, *sorted(cuts), len(whole)]
    _, seen = filtered()
    out = b""
    with pytest.raises(HarmonyFault):
        for start, end in pairwise(edges):
            seen.feed(chunk({"content": whole[start:end]}))
            out += seen.take()
    assert "F# has x <| y; then ".startswith(text(out))


@pytest.mark.parametrize(
    "pieces", [["a <", "b"], ["x <|", "> y"], ["<div", ">"], ["List.map f <", "| xs"], ["a <"]]
)
def test_text_that_only_looks_like_a_control_token_passes(pieces: list[str]) -> None:
    """Operators of F# and Haskell, and HTML, are held until they are decided, and then pass."""
    out, _ = filtered(*(chunk({"content": piece}) for piece in pieces), FINISH, DONE)
    assert text(out) == "".join(pieces)


def test_the_end_of_one_choice_does_not_show_a_token_of_another() -> None:
    """What is held back of one choice stays so while the other ends."""
    _, seen = filtered(choices=2)
    out = b""
    with pytest.raises(HarmonyFault):
        for event in (
            chunk({"content": "b"}, index=1), chunk({"content": "<|"}), chunk({}, finish="stop", index=1),
            chunk({"content": "end|>"}),
        ):  # fmt: skip
            seen.feed(event)
            out += seen.take()
    assert text(out) == "b"


def test_control_tokens_in_arguments_are_caught() -> None:
    """A call's arguments are watched as well."""
    with pytest.raises(HarmonyFault) as caught:
        filtered(call(""), call('{"q":"<|end|>', name=None))
    assert caught.value.kind == "control_token"


@pytest.mark.parametrize("name", ["g", "F", "functions.f", "", None])
def test_a_call_of_no_tool_is_a_fault(name: str | None) -> None:
    """A call must name a tool that the request offers."""
    with pytest.raises(HarmonyFault) as caught:
        filtered(ROLE, call("", name=name))
    assert caught.value.kind == "unknown_tool"


def test_each_call_must_name_its_tool() -> None:
    """The second call is held to it as well."""
    second = {"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": ""}}]}
    with pytest.raises(HarmonyFault):
        filtered(call("{}"), chunk(second))


def test_tool_calls_pass() -> None:
    """Deltas of a call pass as they are, and are an answer."""
    begun, ended = call("{"), call("}", name=None)
    out, seen = filtered(ROLE, begun, ended, chunk({}, finish="tool_calls"), DONE)
    assert begun + ended in out
    assert seen.answered


@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
def test_an_empty_answer_is_a_fault(finish: str) -> None:
    """An end without content or call is a fault of the model's."""
    with pytest.raises(HarmonyFault) as caught:
        filtered(ROLE, chunk({}, finish=finish), usage_chunk())
    assert caught.value.kind == "empty"


def call(arguments: str, *, name: str | None = "f", finish: str | None = None, **more: Any) -> bytes:
    """Return a chunk of a call; ``more`` is what vLLM tells of its end when ``finish`` is given."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    piece = json.loads(chunk({"tool_calls": [{"index": 0, "function": function}]}, finish=finish)[6:])
    piece["choices"][0] |= more
    return data(piece)


WORD = chunk({"content": "a"})
ABORTED = [
    pytest.param([ROLE, usage_chunk(reasoning=0, answer=0), DONE], id="before a token"),
    pytest.param([ROLE, WORD, chunk({}, finish="abort"), usage_chunk(), DONE], id="in text"),
    pytest.param([ROLE, chunk({}, finish="abort"), DONE], id="in reasoning"),
    pytest.param([ROLE, call('{"a'), call("", finish="tool_calls", stop_reason=None), usage_chunk(), DONE],
                 id="in a call"),
    pytest.param([ROLE, call('{"a'), call("", finish="tool_calls", stop_reason=None), DONE],
                 id="in a call, tokens untold"),
    pytest.param([ROLE, WORD, chunk({}, finish="repetition"), DONE], id="unknown reason"),
]  # fmt: skip


@pytest.mark.parametrize("events", ABORTED)
def test_an_aborted_answer_has_not_ended(events: list[bytes]) -> None:
    """However an engine ends what it gives up, it is a failure, and no finish reason passes."""
    _, seen = filtered()
    out = b""
    with pytest.raises(EngineFailed) as caught:
        for event in events:
            seen.feed(event)
            out += seen.take()
    assert (caught.value.retry, seen.done) == ("aborted", False)
    assert b'"finish_reason":"' not in out
    assert DONE not in out


def test_every_choice_must_end() -> None:
    """Of two choices both have to finish."""
    first, second = chunk({"content": "a"}, finish="stop"), chunk({"content": "b"}, finish="stop", index=1)
    _, seen = filtered(first, second, usage_chunk(), DONE, choices=2)
    seen.end()
    with pytest.raises(EngineFailed):
        filtered(first, usage_chunk(), DONE, choices=2)


def test_the_tokens_of_a_bad_end_are_known() -> None:
    """The usage follows the end, so the failure waits for it: what was wasted is counted to the token."""
    _, seen = filtered()
    with pytest.raises(HarmonyFault):
        for event in (ROLE, b": usage p=10 r=1 a=0\n\n", FINISH, usage_chunk(reasoning=9)):
            seen.feed(event)
    assert seen.usage == Usage(prompt=10, reasoning=9, answer=2)


def test_a_call_cut_by_its_limit_says_so() -> None:
    """VLLM ends it as ``tool_calls``; OpenAI names the limit."""
    last = call("", finish="tool_calls", stop_reason=None)
    out, seen = filtered(call('{"a'), last, usage_chunk(answer=100), DONE)
    assert b'"finish_reason":"length"' in out
    assert b'"finish_reason":"tool_calls"' not in out
    seen.end()


@pytest.mark.parametrize(("arguments", "stop"), [('{"a":1}', None), ('{"a', 200012)])
def test_a_call_that_the_model_ended_passes(arguments: str, stop: int | None) -> None:
    """Its arguments are whole, or are what the model made of them."""
    last = call("", finish="tool_calls", stop_reason=stop)
    out, _ = filtered(call(arguments[:3]), call(arguments[3:]), last, usage_chunk(), DONE)
    assert b'"finish_reason":"tool_calls"' in out


def test_empty_pieces_are_no_answer() -> None:
    """They are held back like the role, and an answer of nothing else is empty."""
    _, seen = filtered()
    out = b""
    with pytest.raises(HarmonyFault) as caught:
        for event in (ROLE, chunk({"content": ""}), chunk({"content": ""}), FINISH, usage_chunk()):
            seen.feed(event)
            out += seen.take()
    assert (caught.value.kind, out, seen.answered) == ("empty", b"", False)
    word, nothing = chunk({"content": "a"}), chunk({"content": ""})
    _, seen = filtered(word)
    assert (seen.known(nothing), seen.known(word)) == (b"", word)


def test_an_answer_cut_by_its_limit_is_not_empty() -> None:
    """Finish ``length`` without content is no fault."""
    out, _ = filtered(ROLE, chunk({}, finish="length"), DONE)
    assert out.endswith(DONE)


@pytest.mark.parametrize(("error", "kind"), [
    ({"message": "The server is busy", "code": 503}, Overloaded),
    ({"message": 'unexpected tokens remaining in message header: Some("SECRET")', "code": 500}, HarmonyFault),
    ({"message": "EngineCore died", "code": 500}, EngineFailed),
    ("text", EngineFailed),
])  # fmt: skip
def test_an_error_event_is_a_failure(error: Any, kind: type[RequestFailed]) -> None:
    """An engine's error event never passes; its words are not repeated."""
    with pytest.raises(kind) as caught:
        filtered(data({"error": error}))
    assert b"SECRET" not in caught.value.body


@pytest.mark.parametrize("event", [b"data: {garbage\n\n", b"hello\n\n", b"data: 1\n\n"])
def test_garbage_is_the_engines_fault(event: bytes) -> None:
    """What is no chunk does not pass."""
    with pytest.raises(EngineFailed):
        filtered(event)


def test_a_stream_without_its_end_is_broken() -> None:
    """A stream that ends without ``[DONE]`` has not ended well."""
    _, seen = filtered(chunk({"content": "a"}), FINISH)
    with pytest.raises(EngineFailed):
        seen.end()


def test_a_failure_is_told_as_an_error_event() -> None:
    """The event carries OpenAI's error object, and no ``[DONE]`` follows."""
    _, seen = filtered()
    event = seen.failure_event(HarmonyFault("parse"))
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "harmony_fault"


def vllm(content: str, *, hidden: bool = True) -> bytes:
    """Return an event of content as vLLM writes it, with its nulls."""
    told = '"reasoning":null' if hidden else '"role":null'
    return (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
        b'"choices":[{"index":0,"delta":{"content":%b,%b},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
    ) % (json.dumps(content, ensure_ascii=False).encode(), told.encode())


@given(
    st.lists(
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(
                ["<|", "<|chan", "nel|>", 'a"b', "a\\b", "\n", "}]}", " <b>", "<|end|>", '","role":"x']
            ),
        ),
        max_size=12,
    ),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_the_short_way_gives_what_the_long_one_does(words: list[str], doubled: list[bool]) -> None:
    """Whether an event is known by its form or looked at whole, the client gets the same bytes or error."""
    events = [ROLE, *map(vllm, words), FINISH, DONE]
    chunks, waiting = [], b""
    for event, joins in zip(events, [*doubled, False, False, False], strict=False):
        waiting += event
        if not joins:
            chunks.append(waiting)
            waiting = b""
    chunks.append(waiting)
    outcomes = []
    for short in (True, False):
        seen = ChatStream(Asked(False, False, 1, max_output_tokens=100, tools=frozenset()))
        out = b""
        try:
            for one in chunks:
                if short and (known := seen.known(one)):
                    out += known
                    continue
                for event in EventSplitter().feed(one):
                    seen.feed(event)
                out += seen.take()
        except EngineFailed as fault:
            out += repr(fault).encode()
        outcomes.append((out, seen.answered, seen.done))
    assert outcomes[0] == outcomes[1]


def test_plain_words_take_the_short_way() -> None:
    """From the second word on an event is known, unless its text needs a look."""
    seen = ChatStream(Asked(False, False, 1, max_output_tokens=100, tools=frozenset()))
    assert seen.known(vllm("Hel")) == b""
    seen.feed(ROLE)
    seen.feed(vllm("Hel"))
    assert seen.known(vllm("lo, Wörld")) == vllm("lo, Wörld").replace(b',"reasoning":null', b"").replace(
        b',"token_ids":null', b""
    )
    for odd in (vllm("<"), vllm('"'), vllm("x") + vllm("y"), vllm("x")[:-1], vllm("x", hidden=False), DONE):
        assert seen.known(odd) == b""
    assert seen.known(vllm("x").replace(b'"x"', rb'"\u003c"')) == b""
