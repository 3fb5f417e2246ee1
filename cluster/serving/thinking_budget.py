"""When vLLM's V1 model runner ends a chain of thought: a budget that never reaches beyond the chain.

vLLM 0.29 has two runners, each with a budget of its own. Of V2, which GPUs run, nothing is replaced. V1,
which CPUs run, takes the ``<|end|>`` of an earlier preamble for that of the chain that follows: it counts on
through the tool call after that and cuts into it. It also scans the whole chain again for each token, which
took 0.4 ms at 4,000 tokens (measured; here 1 µs at any length).

Importing the module replaces what V1 decides after each token; the module refuses a vLLM of another version.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import vllm
from vllm.v1.sample.thinking_budget_state import ThinkingBudgetStateHolder

from cluster.serving.harmony_tokens import END, Thought

VLLM_VERSION = "0.29."
"""The vLLM whose internals are replaced."""

Decide = Callable[[Any, dict[str, Any]], None]
"""Sets what vLLM forces next in the state of one request."""


def _decide(original: Decide) -> Decide:
    @wraps(original)
    def decide(holder: Any, state: dict[str, Any]) -> None:
        if holder.in_spec_mode or holder.think_end_token_ids != [END]:
            original(holder, state)  # several tokens at a time, or other markers than ours: vLLM's own
            return
        thought = state.get("thought")
        if thought is None:
            thought = state["thought"] = Thought()
        length = thought.length(state["output_tok_ids"])
        spent = length is not None and 0 <= state["thinking_token_budget"] <= length
        state["in_end"], state["end_count"] = spent, 0
        state["force_index"] = [0] if spent else []

    return decide


def _apply() -> None:
    if not vllm.__version__.startswith(VLLM_VERSION):
        raise RuntimeError(
            f"{__name__} replaces internals of vLLM {VLLM_VERSION}x, not of {vllm.__version__}"
        )
    name = "_update_think_state"
    setattr(ThinkingBudgetStateHolder, name, _decide(getattr(ThinkingBudgetStateHolder, name)))


_apply()
