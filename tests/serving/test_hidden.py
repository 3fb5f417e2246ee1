"""Responses without their reasoning, whole and streamed."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from cluster.serving.hidden import hide_events, honour_include_reasoning

REASONING, MESSAGE, CALL = (SimpleNamespace(type=kind) for kind in ("reasoning", "message", "function_call"))


def event(kind: str, **fields: Any) -> Any:
    """Return an event of vLLM's form; its sequence number is set later."""
    return SimpleNamespace(type=f"response.{kind}", sequence_number=-1, **fields)


def item_events(item: Any, index: int) -> list[Any]:
    """Return the events of one output item."""
    inner = {"reasoning": "reasoning_text.delta", "message": "output_text.delta"}
    delta = inner.get(item.type, "function_call_arguments.delta")
    return [
        event("output_item.added", item=item, output_index=index),
        *([event("reasoning_part.added", output_index=index)] if item is REASONING else []),
        event(delta, output_index=index),
        event("output_item.done", item=item, output_index=index),
    ]


async def stream(items: list[Any]) -> AsyncGenerator[Any, None]:
    """Yield a whole stream as vLLM does, numbered without gaps."""
    events = [event("created", response=SimpleNamespace(output=[]))]
    for index, item in enumerate(items):
        events += item_events(item, index)
    events.append(event("completed", response=SimpleNamespace(output=list(items))))
    for number, each in enumerate(events):
        each.sequence_number = number
        yield each


async def test_reasoning_events_are_dropped_and_the_rest_renumbered() -> None:
    """Sequence numbers and output indexes stay gapless; the final object agrees with the stream."""
    seen = [each async for each in hide_events(stream([REASONING, CALL, REASONING, MESSAGE]))]
    assert [(each.type, each.sequence_number, getattr(each, "output_index", None)) for each in seen] == [
        ("response.created", 0, None),
        ("response.output_item.added", 1, 0),
        ("response.function_call_arguments.delta", 2, 0),
        ("response.output_item.done", 3, 0),
        ("response.output_item.added", 4, 1),
        ("response.output_text.delta", 5, 1),
        ("response.output_item.done", 6, 1),
        ("response.completed", 7, None),
    ]
    assert seen[-1].response.output == [CALL, MESSAGE]


async def test_a_stream_without_reasoning_is_unchanged() -> None:
    """Numbers and indexes are those that the engine gave."""
    seen = [each async for each in hide_events(stream([MESSAGE]))]
    assert [each.sequence_number for each in seen] == list(range(5))
    assert seen[1].output_index == 0


async def test_leaving_the_stream_closes_the_engines() -> None:
    """VLLM aborts a request when its generator is closed."""
    closed = []

    async def endless() -> AsyncGenerator[Any, None]:
        try:
            while True:
                yield event("output_text.delta", output_index=0)
        finally:
            closed.append(True)

    kept = hide_events(endless())
    assert hasattr(kept, "aclose")
    await anext(kept)
    await kept.aclose()
    assert closed == [True]


async def ask(result: Any, *, include: bool) -> Any:
    """Return what the wrapped endpoint gives for ``result``."""

    async def create(request: Any, raw_request: Any = None) -> Any:
        del request, raw_request
        return result

    return await honour_include_reasoning(create)(SimpleNamespace(include_reasoning=include))


async def test_a_whole_response_loses_its_reasoning_when_asked() -> None:
    """And only then."""
    assert (await ask(SimpleNamespace(output=[REASONING, MESSAGE]), include=False)).output == [MESSAGE]
    assert len((await ask(SimpleNamespace(output=[REASONING, MESSAGE]), include=True)).output) == 2


async def test_an_error_passes_untouched() -> None:
    """An error response has no output."""
    error = SimpleNamespace(error="x")
    assert await ask(error, include=False) is error
