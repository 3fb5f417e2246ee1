"""The table of GPU profiles: one row per model and GPU, each engine flag with its reason.

Marks in the reasons: (published) somebody measured it, (source) read in vLLM 0.29, (inferred) ours, to be
measured on the GPU before it is relied on. The planner in `cluster.core.memory` checks every row.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cluster.core.memory import GIB, SHAPES, Budget, MemoryPlan, require_fit, weight_bytes
from cluster.settings import PoolSettings

Value = int | float | str | bool


class ProfileError(ValueError):
    """No such profile for the model; the message lists those there are."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One engine flag and why it has its value."""

    value: Value
    reason: str


@dataclass(frozen=True, slots=True)
class Profile:
    """One model on one GPU."""

    name: str
    model: str
    accelerator: str | None
    """Ray's accelerator type, so that the replica lands on that GPU; None: any GPU, or none."""
    gpu_bytes: int
    """Memory that the driver reports; 0 on a CPU."""
    flags: Mapping[str, Flag]


PLUGIN = Path(__file__).with_name("vllm_plugin.py")

COMMON: Mapping[str, Flag] = MappingProxyType(
    {
        "dtype": Flag("bfloat16", "what the model was trained in; experts stay MXFP4 (model card)"),
        "scheduling_policy": Flag(
            "priority", "deadlines order the engine's queue; fcfs ignores them silently"
        ),
        "tool_call_parser": Flag("openai", "without a tool parser calls are dropped silently"),
        "enable_auto_tool_choice": Flag(True, "tools with tool_choice auto are refused without it"),
        "reasoning_parser": Flag("openai_gptoss_counted", "ours: counts, contains faults, allows budgets"),
        "reasoning_parser_plugin": Flag(str(PLUGIN), "registers that parser in the engine's own process"),
        "enable_prefix_caching": Flag(True, "recipes switch it off only to measure with synthetic data"),
        "enable_prompt_tokens_details": Flag(True, "cached prompt tokens appear in usage, and are metered"),
        "enable_log_requests": Flag(False, "prompts never reach a log"),
        "disable_fastapi_docs": Flag(True, "no unguarded pages beside the API"),
    }
)
"""Flags of every profile."""

_RECIPE = "vLLM recipe for gpt-oss (published)"
_MARLIN = "Triton was 21-35 % slower at 16 streams (published, vLLM PR 27523); compare on your GPU"


def _profile(
    name: str, model: str, *, accelerator: str | None, gib: float, flags: Mapping[str, tuple[Value, str]]
) -> Profile:
    rows = {flag: Flag(*row) for flag, row in flags.items()}
    return Profile(name, model, accelerator, int(gib * GIB), MappingProxyType({**COMMON, **rows}))


_CPU: Mapping[str, tuple[Value, str]] = {
    "max_model_len": (8192, "the tiny model's answers are short"),
    "max_num_seqs": (32, "throughput of two cores stops growing there (measured)"),
    "max_num_batched_tokens": (2048, "vLLM sees no GPU to derive it from"),
    "kv_cache_memory_bytes": (
        256 * 1024**2,
        "3.5 GB per engine instead of 5.4, and a faster start (measured)",
    ),
    "enforce_eager": (True, "nothing to compile for: saves start time"),
}

PROFILES: tuple[Profile, ...] = (
    _profile(
        "h100-80gb",
        "gpt-oss-120b",
        accelerator="H100",
        gib=79.1,
        flags={
            "max_model_len": (65_536, "80 GB cards ran out of memory at full length (published, vLLM 33155)"),
            "max_num_seqs": (
                32,
                "25 ms between tokens at 32 streams on the faster H200 (published); inferred",
            ),
            "max_num_batched_tokens": (2048, "8,192 runs out of memory on one H100 (published, vLLM 23278)"),
            "gpu_memory_utilization": (0.95, _RECIPE),
            "moe_backend": ("marlin", _MARLIN),
            "kv_cache_dtype": ("auto", "bfloat16; fp8 on Hopper lost accuracy before vLLM 0.19 (published)"),
        },
    ),
    _profile(
        "h200",
        "gpt-oss-120b",
        accelerator="H200",
        gib=139.8,
        flags={
            "max_model_len": (131_072, "the model's own limit; it fits"),
            "max_num_seqs": (64, "42 ms between tokens with 8k prompts, half that with 1k (published)"),
            "max_num_batched_tokens": (8192, _RECIPE),
            "gpu_memory_utilization": (
                0.92,
                "room for fragmentation; memory is not the limit here (inferred)",
            ),
            "moe_backend": ("marlin", _MARLIN),
            "kv_cache_dtype": ("auto", "bfloat16; fp8 on Hopper lost accuracy before vLLM 0.19 (published)"),
        },
    ),
    _profile(
        "b200",
        "gpt-oss-120b",
        accelerator="B200",
        gib=178.3,
        flags={
            "max_model_len": (131_072, "the model's own limit; it fits"),
            "max_num_seqs": (128, "22 ms between tokens with 8k prompts, 14 ms with 1k (published)"),
            "max_num_batched_tokens": (8192, _RECIPE),
            "gpu_memory_utilization": (
                0.92,
                "room for fragmentation; memory is not the limit here (inferred)",
            ),
            "moe_backend": ("flashinfer_trtllm", "vLLM's first choice on Blackwell (source)"),
            "kv_cache_dtype": ("fp8", _RECIPE),
        },
    ),
    _profile(
        "a100-80gb",
        "gpt-oss-120b",
        accelerator="A100",
        gib=79.2,
        flags={
            "max_model_len": (65_536, "as on the H100: the same memory"),
            "max_num_seqs": (24, "about 0.6 of the H100's memory bandwidth (inferred)"),
            "max_num_batched_tokens": (2048, "as on the H100: the same memory"),
            "gpu_memory_utilization": (0.95, "as on the H100: the same memory"),
            "moe_backend": ("marlin", "the only MXFP4 kernels on Ampere (source)"),
            "attention_backend": ("TRITON_ATTN", _RECIPE),
            "kv_cache_dtype": ("auto", "bfloat16; Ampere has no fp8"),
        },
    ),
    _profile(
        "gpu-16gb",
        "gpt-oss-20b",
        accelerator=None,
        gib=15.6,
        flags={
            "max_model_len": (
                8192,
                "half a GiB is left for KV (planner); longer contexts need a larger card",
            ),
            "max_num_seqs": (8, "the planner's KV holds about 8 short conversations (inferred)"),
            "max_num_batched_tokens": (1024, "keeps the forward pass's peak small (planner)"),
            "gpu_memory_utilization": (0.95, "weights alone take 13.7 GiB of 15.6 (planner)"),
            "enforce_eager": (True, "captured graphs would take the memory that KV needs; slower tokens"),
            "moe_backend": ("marlin", "runs from Ampere on, whatever the card (source)"),
            "kv_cache_dtype": ("auto", "bfloat16: works on every card"),
        },
    ),
    _profile(
        "gpu-24gb",
        "gpt-oss-20b",
        accelerator=None,
        gib=22.0,
        flags={
            "max_model_len": (65_536, "more than four such contexts would not fit at once (planner)"),
            "max_num_seqs": (24, "memory bandwidth of an L4 or A10 is a tenth of an H100's (inferred)"),
            "max_num_batched_tokens": (2048, "keeps the forward pass's peak small (planner)"),
            "gpu_memory_utilization": (0.92, "room for a display or a monitor beside it (inferred)"),
            "moe_backend": ("marlin", "runs from Ampere on, whatever the card (source)"),
            "kv_cache_dtype": ("auto", "bfloat16: works on every card"),
        },
    ),
    _profile(
        "gpu-80gb",
        "gpt-oss-20b",
        accelerator=None,
        gib=79.1,
        flags={
            "max_model_len": (131_072, "the model's own limit; it fits"),
            "max_num_seqs": (128, "8 ms between tokens at 8 streams on an H100 (published); inferred"),
            "max_num_batched_tokens": (8192, _RECIPE),
            "gpu_memory_utilization": (
                0.92,
                "room for fragmentation; memory is not the limit here (inferred)",
            ),
            "moe_backend": ("marlin", _MARLIN),
            "kv_cache_dtype": ("auto", "bfloat16: works on A100 and H100 alike"),
        },
    ),
    _profile("cpu", "gpt-oss-120b", accelerator=None, gib=0, flags=_CPU),
    _profile("cpu", "gpt-oss-20b", accelerator=None, gib=0, flags=_CPU),
)


def find(model: str, name: str) -> Profile:
    """Return the profile of ``model`` called ``name``. Raises `ProfileError`."""
    for profile in PROFILES:
        if (profile.model, profile.name) == (model, name):
            return profile
    names = ", ".join(profile.name for profile in PROFILES if profile.model == model)
    raise ProfileError(f"{model} has no profile {name!r}{_too_small(model, name)}. It has: {names}.")


def _too_small(model: str, name: str) -> str:
    """Say so when a GPU that another model has a profile for cannot hold this one."""
    weights = weight_bytes(SHAPES[model], "marlin")
    for profile in PROFILES:
        if profile.name == name and 0 < profile.gpu_bytes < weights:
            sizes = f"{weights / GIB:.0f} GiB of weights do not fit {profile.gpu_bytes / GIB:.0f} GiB"
            return f": its {sizes}"
    return ""


def engine_flags(pool: PoolSettings) -> dict[str, Value]:
    """Return the engine's keyword arguments for a pool, its own limits applied. Raises `ProfileError`."""
    profile = find(pool.model, pool.profile)
    flags = {name: flag.value for name, flag in profile.flags.items()}
    if pool.max_model_len is not None:
        flags["max_model_len"] = pool.max_model_len
    if pool.max_num_seqs is not None:
        flags["max_num_seqs"] = pool.max_num_seqs
    return flags


def memory_plan(pool: PoolSettings) -> MemoryPlan | None:
    """Return where the pool's GPU memory goes; None on a CPU.

    Raises `ProfileError`, and `MemoryPlanError` when the model or its context does not fit.
    """
    profile = find(pool.model, pool.profile)
    if not profile.gpu_bytes:
        return None
    flags = engine_flags(pool)
    return require_fit(
        SHAPES[pool.model],
        Budget(
            gpu_bytes=profile.gpu_bytes,
            utilization=float(flags["gpu_memory_utilization"]),
            max_model_len=int(flags["max_model_len"]),
            max_num_seqs=int(flags["max_num_seqs"]),
            max_num_batched_tokens=int(flags["max_num_batched_tokens"]),
            moe_backend=str(flags["moe_backend"]),
            kv_bytes=1 if flags["kv_cache_dtype"] == "fp8" else 2,
            eager=bool(flags.get("enforce_eager", False)),
        ),
    )


def table() -> Iterator[tuple[str, str, str, Value, str]]:
    """Yield (model, profile, flag, value, reason); the flags of every profile come first, as ``*``."""
    for name, flag in COMMON.items():
        yield "*", "*", name, flag.value, flag.reason
    for profile in PROFILES:
        for name, flag in profile.flags.items():
            if name not in COMMON:
                yield profile.model, profile.name, name, flag.value, flag.reason
