"""How fast a replica is: time between tokens, prefill rate, slots and KV capacity of gpt-oss-120b on one GPU.

The figures are InferenceMAX's of 2026-01-02 (vLLM 0.13, gpt-oss-120b, one GPU per replica, random prompts,
prefix caching off): mean time per output token (TPOT) by concurrency, for prompts and outputs of about 1,000
and 8,000 tokens. A published TPOT holds the prefills of the others, so it is taken apart: a decode step of a
batch of n takes ``step_ms(n) + kv_ns * tokens in the KV cache``, and each new prompt stops the batch for
``prompt / prefill_tokens_per_ms``. Put together again, `published_tpot_ms` is within 10 % of every published
row of B200 and H200 (a test holds it). Slots and KV capacity are those of the product's profiles.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cache

from cluster.serving import profiles
from cluster.settings import PoolSettings

MODEL = "gpt-oss-120b"


@dataclass(frozen=True, slots=True)
class Engine:
    """One replica's speed and size."""

    step_ms: tuple[float, ...]
    """Milliseconds of a decode step by batch size, less what the cache costs; the index is the batch."""
    kv_ns: float
    """Nanoseconds that each token in the cache adds to a step: it is read once."""
    prefill_tokens_per_ms: float
    slots: int
    """Largest batch (``max_num_seqs``)."""
    kv_tokens: int
    """Tokens that the KV cache holds."""

    def published_tpot_ms(self, batch: int, prompt: int, output: int) -> float:
        """Return the mean time per output token that a benchmark with a constant batch would measure."""
        cache_ms = self.kv_ns * 1e-6 * batch * (prompt + output / 2)
        return self.step_ms[batch] + cache_ms + batch * prompt / output / self.prefill_tokens_per_ms


@dataclass(frozen=True, slots=True)
class _Curve:
    source: str
    step_ms: dict[int, float]
    kv_ns: float
    prefill_tokens_per_ms: float


_PUBLISHED = "InferenceMAX 2026-01-02 (vLLM 0.13, gpt-oss-120b)"

_H200 = _Curve(
    source=f"{_PUBLISHED}: one H200",
    # 8k/1k: 7.2, 10.5, 16.1, 25.1, 42.1 ms at 4 to 64, less 8 n / 27 of prefill, less the cache; 1: inferred
    step_ms={1: 3.7, 4: 5.75, 8: 7.55, 16: 10.3, 32: 13.5, 64: 18.8},
    kv_ns=7.7,  # 36,864 bytes a token (bfloat16) at 4.8 TB/s
    prefill_tokens_per_ms=27,
)
_SLOWER = 4.8 / 3.35
"""Memory bandwidth of an H200 over that of an H100, of which only pairs were published: inferred."""
_CURVES = {
    "b200": _Curve(
        source=f"{_PUBLISHED}: one B200",
        # 1k/1k: 3.8, 4.8, 6.1, 8.2, 10.7, 14.3 ms at 4 to 128, less n / 120 of prefill; 1: intercept
        step_ms={1: 3.15, 4: 3.77, 8: 4.73, 16: 5.97, 32: 7.93, 64: 10.17, 128: 13.23},
        kv_ns=0,  # fp8: rows of 1k and 8k differ by their prefill alone
        prefill_tokens_per_ms=120,
    ),
    "h200": _H200,
    "h100-80gb": _Curve(
        source=f"{_PUBLISHED}: one H200, slowed to the H100's memory bandwidth (inferred)",
        step_ms={batch: ms * _SLOWER for batch, ms in _H200.step_ms.items()},
        kv_ns=_H200.kv_ns * _SLOWER,
        prefill_tokens_per_ms=_H200.prefill_tokens_per_ms,
    ),
}
GPUS = tuple(_CURVES)
"""Names of the profiles that there are curves for."""


def source(gpu: str) -> str:
    """Return where the curve of ``gpu``, one of `GPUS`, comes from. Raises `KeyError`."""
    return _CURVES[gpu].source


@cache
def engine(gpu: str, slots: int | None = None) -> Engine:
    """Return the engine on ``gpu``, one of `GPUS`; ``slots`` replaces the profile's. Raises `KeyError`."""
    curve = _CURVES[gpu]
    pool = PoolSettings(model=MODEL, profile=gpu)
    plan = profiles.memory_plan(pool)
    assert plan is not None, "every profile with a curve is a GPU"
    made = Engine(
        step_ms=(),
        kv_ns=curve.kv_ns,
        prefill_tokens_per_ms=curve.prefill_tokens_per_ms,
        slots=slots or int(profiles.engine_flags(pool)["max_num_seqs"]),
        kv_tokens=plan.kv_tokens,
    )
    return replace(made, step_ms=tuple(_between(curve.step_ms, max(n, 1)) for n in range(made.slots + 1)))


def _between(points: dict[int, float], batch: int) -> float:
    """Return the step at ``batch``: straight lines over its logarithm, the last one without an end."""
    known = sorted(points)
    right = min(max(bisect_right(known, batch), 1), len(known) - 1)
    low, high = known[right - 1], known[right]
    part = math.log(batch / low) / math.log(high / low)
    return points[low] + part * (points[high] - points[low])
