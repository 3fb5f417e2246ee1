"""Hide reasoning on ``/v1/responses``: vLLM reads ``include_reasoning`` there and, for gpt-oss, ignores it.

Works on vLLM's own event and response objects, before they are written out.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

REASONING = "reasoning"


class ReasoningFilter:
    """Drops a stream's reasoning events; the others keep gapless ``output_index`` and ``sequence_number``."""

    def __init__(self) -> None:
        self._sequence = 0
        self._hidden: set[int] = set()

    def __call__(self, event: Any) -> Any | None:
        """Return the event, renumbered in place, or None when it shows reasoning."""
        if self._shows_reasoning(event):
            return None
        if hasattr(event, "output_index"):
            event.output_index -= sum(index < event.output_index for index in self._hidden)
        if hasattr(getattr(event, "response", None), "output"):
            hide(event.response)
        if hasattr(event, "sequence_number"):
            event.sequence_number = self._sequence
        self._sequence += 1
        return event

    def _shows_reasoning(self, event: Any) -> bool:
        if getattr(getattr(event, "item", None), "type", None) == REASONING:
            self._hidden.add(event.output_index)
            return True
        return str(event.type).startswith("response.reasoning")


def hide(response: Any) -> None:
    """Remove the reasoning items of a response, in place."""
    response.output = [item for item in response.output if item.type != REASONING]


async def hide_events(events: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
    """Yield the events of a stream without its reasoning."""
    keep = ReasoningFilter()
    try:
        async for event in events:
            if (kept := keep(event)) is not None:
                yield kept
    finally:
        await events.aclose()


def honour_include_reasoning(create: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap ``OpenAIServingResponses.create_responses`` so that it obeys ``include_reasoning: false``."""

    async def create_responses(request: Any, raw_request: Any = None) -> Any:
        result = await create(request, raw_request)
        if request.include_reasoning:
            return result
        if hasattr(result, "__aiter__"):
            return hide_events(result)
        if hasattr(result, "output"):
            hide(result)
        return result

    return create_responses
