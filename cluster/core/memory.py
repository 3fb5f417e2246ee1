"""Will a model fit a GPU, and how long a context fits beside it: arithmetic from the model's shape.

File size is the wrong base: kernels pad the experts; gpt-oss-120b is 60.8 GiB on disk and 64 to 66 loaded.
The plan follows vLLM's own order: what utilisation allows, less the loaded weights, less the peak of one
profiled step, less a fixed part; the rest is KV cache. Calibrated (tests hold it) to published vLLM logs of
one H100 80 GB:

- loaded: 65.97 GiB with Marlin (vLLM issue 23278), 64.38 GiB with Triton (33155); on disk 60.8 and 12.8 GiB;
- left for KV: 1.71 GiB at utilisation 0.95 and 1,024 batched tokens (27508), -2.14 GiB at the defaults of an
  80 GB card, 0.90 and 8,192 (23278); both ran the default of 1,024 sequences, whose sampling is the peak.
"""

import math
from dataclasses import dataclass, replace

GIB = 1024**3
MXFP4_BITS = 4.25
"""Bits per expert weight: 4 and an 8-bit scale shared by 32 (model card, section 2)."""
SAMPLER_BYTES_PER_LOGIT = 28
"""Peak of vLLM's sampling per sequence and vocabulary entry: float32 logits, their sorted copy with 64-bit
indices, probabilities, cumulative sums and masks. Fitted to the published KV sizes above."""
CONTEXT_BYTES = GIB // 2
"""CUDA context and loaded kernels, which utilisation counts."""
GRAPH_BYTES = 17 * GIB // 10
"""Captured CUDA graphs and kernel workspaces; none with ``enforce_eager``. Fitted to the same."""
BLOCK_TOKENS = 16
"""Tokens per KV block, vLLM's default."""
EXPERT_ALIGNMENT = {"triton": (256, 64), "marlin": (256, 128), "flashinfer_trtllm": (256, 128)}
"""Multiple to which each MoE backend pads (hidden, intermediate) sizes; vLLM 0.29
``fused_moe/oracle/mxfp4.py``, for Triton the Hopper layout that the published size implies."""


class MemoryPlanError(ValueError):
    """The profile cannot fit; the message says by how much, and what would."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What decides a model's memory."""

    name: str
    layers: int
    experts: int
    active_experts: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    other_parameters: int
    """Attention, router, embedding and unembedding, kept in bfloat16 (model card, table 1)."""
    sliding_window: int
    """Window in tokens of every second layer; the others are dense."""
    max_context: int


SHAPES = {
    "gpt-oss-120b": ModelShape(
        "gpt-oss-120b", 36, 128, 4, 2880, 2880, 64, 8, 64, 201_088, 2_120_000_000, 128, 131_072
    ),
    "gpt-oss-20b": ModelShape(
        "gpt-oss-20b", 24, 32, 4, 2880, 2880, 64, 8, 64, 201_088, 1_800_000_000, 128, 131_072
    ),
}


@dataclass(frozen=True, slots=True)
class Budget:
    """One GPU and the engine's limits on it."""

    gpu_bytes: int
    """Memory that the driver reports, not the number on the box."""
    utilization: float
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    moe_backend: str
    kv_bytes: int = 2
    """Bytes per KV element: 2 for bfloat16, 1 for fp8."""
    eager: bool = False
    """Without captured CUDA graphs."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where a GPU's memory goes; everything in bytes or tokens."""

    weights: int
    step: int
    fixed: int
    kv: int
    kv_tokens: int
    """Tokens of cache on the dense layers, beside the windows of a full batch."""
    longest_context: int
    """Longest single sequence that the cache can hold, at most the model's own limit."""


def weight_bytes(shape: ModelShape, moe_backend: str) -> int:
    """Return the loaded size with a backend of `EXPERT_ALIGNMENT`; with any other, the size on disk."""
    align_hidden, align_inner = EXPERT_ALIGNMENT.get(moe_backend, (1, 1))
    hidden, inner = _round_up(shape.hidden, align_hidden), _round_up(shape.intermediate, align_inner)
    experts = shape.layers * shape.experts
    return int(
        experts * 3 * hidden * inner * MXFP4_BITS / 8
        + experts * (2 * inner + hidden) * 2
        + shape.other_parameters * 2
    )


def dense_kv_bytes_per_token(shape: ModelShape, kv_bytes: int = 2) -> int:
    """Return the cache that each token of context costs: keys and values of the dense half of the layers."""
    return 2 * shape.kv_heads * shape.head_dim * kv_bytes * (shape.layers // 2)


def window_bytes_per_sequence(shape: ModelShape, in_flight_tokens: int, kv_bytes: int = 2) -> int:
    """Return the cache that a sequence's sliding windows cost, however long it is.

    ``in_flight_tokens`` are those of the sequence in the current step; they stay until the step is done.
    """
    tokens = shape.sliding_window - 1 + in_flight_tokens
    blocks = math.ceil(tokens / BLOCK_TOKENS) + 1
    return blocks * BLOCK_TOKENS * dense_kv_bytes_per_token(shape, kv_bytes)


def step_bytes(shape: ModelShape, budget: Budget) -> int:
    """Return the peak of one profiled step: the larger of its forward pass and its sampling."""
    expert = shape.active_experts * (3 * shape.intermediate + shape.hidden)
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    forward = budget.max_num_batched_tokens * (expert + attention + 4 * shape.hidden) * 2
    sampling = budget.max_num_seqs * shape.vocabulary * SAMPLER_BYTES_PER_LOGIT
    return max(forward, sampling)


def plan(shape: ModelShape, budget: Budget) -> MemoryPlan:
    """Return where the memory goes; ``kv`` is negative when the model does not fit."""
    weights = weight_bytes(shape, budget.moe_backend)
    step = step_bytes(shape, budget)
    fixed = _fixed_bytes(budget)
    kv = int(budget.gpu_bytes * budget.utilization) - weights - step - fixed
    per_token = dense_kv_bytes_per_token(shape, budget.kv_bytes)
    windows = budget.max_num_seqs * window_bytes_per_sequence(shape, 1, budget.kv_bytes)
    alone = kv - window_bytes_per_sequence(shape, budget.max_num_batched_tokens, budget.kv_bytes)
    longest = min(max(alone, 0) // per_token // BLOCK_TOKENS * BLOCK_TOKENS, shape.max_context)
    return MemoryPlan(weights, step, fixed, kv, max(kv - windows, 0) // per_token, longest)


def require_fit(shape: ModelShape, budget: Budget) -> MemoryPlan:
    """Return the plan. Raises `MemoryPlanError` when the model or its context does not fit."""
    result = plan(shape, budget)
    room = budget.gpu_bytes * budget.utilization
    if result.kv <= 0:
        raise MemoryPlanError(
            f"{shape.name} does not fit: it needs {_gib(result.weights)} GiB for weights and "
            f"{_gib(result.step + result.fixed)} GiB to run, but utilisation {budget.utilization:g} of this "
            f"{_gib(budget.gpu_bytes)} GiB GPU leaves {_gib(room)} GiB. {_mend(shape, budget)}"
        )
    if result.longest_context < budget.max_model_len:
        raise MemoryPlanError(
            f"{shape.name} fits, but a context of {budget.max_model_len} tokens does not: "
            f"{_gib(result.kv)} GiB are left for KV cache, enough for {result.longest_context} tokens. "
            f"Set max_model_len to at most {result.longest_context}."
        )
    return result


def _mend(shape: ModelShape, budget: Budget) -> str:
    smallest = replace(budget, max_num_seqs=1, max_num_batched_tokens=BLOCK_TOKENS)
    if plan(shape, smallest).kv > 0:
        return "Lower max_num_seqs or max_num_batched_tokens."
    need = weight_bytes(shape, budget.moe_backend) + _fixed_bytes(budget)
    return f"It takes a GPU of at least {math.ceil(need / budget.utilization / GIB)} GiB."


def _fixed_bytes(budget: Budget) -> int:
    return CONTEXT_BYTES + (0 if budget.eager else GRAPH_BYTES)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"
