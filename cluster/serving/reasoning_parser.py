"""vLLM's reasoning parser for gpt-oss, with a true count and the markers that allow a budget.

Apart from `cluster.serving.harmony`: the engine's process needs this part, and none of the server's.
"""

from collections.abc import Sequence

from vllm.reasoning import ReasoningParserManager
from vllm.reasoning.gptoss_reasoning_parser import GptOssReasoningParser

from cluster.serving.harmony_tokens import count_reasoning

NAME = "openai_gptoss_counted"
START, END = "<|channel|>analysis<|message|>", "<|end|>"
"""Budget markers. A longer end that opens the final channel cuts into tool calls and breaks grammars."""


class CountedGptOssParser(GptOssReasoningParser):
    """Registered under `NAME` by importing this module."""

    @property
    def reasoning_start_str(self) -> str:
        """Text that opens reasoning."""
        return START

    @property
    def reasoning_end_str(self) -> str:
        """Text that ends reasoning when the budget is spent, and its natural end."""
        return END

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Return the number of reasoning tokens of a whole answer."""
        return count_reasoning(token_ids)


ReasoningParserManager.register_module(NAME, module=CountedGptOssParser)
