"""The planner agrees with what vLLM published, and says what to change."""

import pytest

from cluster.core.memory import (
    GIB,
    SHAPES,
    Budget,
    MemoryPlanError,
    dense_kv_bytes_per_token,
    plan,
    require_fit,
    weight_bytes,
    window_bytes_per_sequence,
)

BIG, SMALL = SHAPES["gpt-oss-120b"], SHAPES["gpt-oss-20b"]
H100 = int(79.1 * GIB)


def budget(**changes: float | str) -> Budget:
    """Return an H100 with the default limits of vLLM's server, but for ``changes``."""
    base = {
        "gpu_bytes": H100,
        "utilization": 0.95,
        "max_model_len": 32_768,
        "max_num_seqs": 1024,
        "max_num_batched_tokens": 1024,
        "moe_backend": "marlin",
    }
    return Budget(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "backend", "gib"),
    [
        pytest.param("gpt-oss-120b", "none", 60.8, id="120b on disk (model card)"),
        pytest.param("gpt-oss-20b", "none", 12.8, id="20b on disk (model card)"),
        pytest.param("gpt-oss-120b", "marlin", 65.97, id="120b loaded with Marlin (vLLM 23278)"),
        pytest.param("gpt-oss-120b", "triton", 64.38, id="120b loaded with Triton (vLLM 33155)"),
    ],
)
def test_weights_match_what_was_published(model: str, backend: str, gib: float) -> None:
    """The size computed from the shape is within 0.5 % of the published one."""
    assert weight_bytes(SHAPES[model], backend) / GIB == pytest.approx(gib, rel=0.005)


@pytest.mark.parametrize(
    ("utilization", "batched_tokens", "gib"),
    [
        pytest.param(0.95, 1024, 1.71, id="vLLM 27508"),
        pytest.param(0.90, 8192, -2.14, id="vLLM 23278"),
    ],
)
def test_room_for_kv_matches_what_was_published(utilization: float, batched_tokens: int, gib: float) -> None:
    """What one H100 leaves for KV cache is within 0.3 GiB of two published logs."""
    result = plan(BIG, budget(utilization=utilization, max_num_batched_tokens=batched_tokens))
    assert result.kv / GIB == pytest.approx(gib, abs=0.3)


def test_published_kv_room_holds_about_36_to_50_thousand_tokens() -> None:
    """The 1.7 GiB of the published log are 50 thousand tokens at the dense layers' price."""
    assert int(1.71 * GIB) // dense_kv_bytes_per_token(BIG) == pytest.approx(50_000, rel=0.01)


@pytest.mark.parametrize(("model", "size"), [("gpt-oss-120b", 36_864), ("gpt-oss-20b", 24_576)])
def test_a_token_of_context_costs_what_the_dense_layers_keep(model: str, size: int) -> None:
    """Half of the layers are dense; each keeps 8 heads of 64 keys and values in bfloat16."""
    assert dense_kv_bytes_per_token(SHAPES[model]) == size


def test_windows_cost_the_same_for_every_length_of_context() -> None:
    """A sliding window holds 128 tokens in nine or ten blocks of 16, whatever the context."""
    assert window_bytes_per_sequence(BIG, 1) == 9 * 16 * 36_864


def test_fp8_halves_the_cache() -> None:
    """One byte per element holds twice the tokens."""
    room = budget(max_num_seqs=32)
    half = plan(BIG, budget(max_num_seqs=32, kv_bytes=1))
    assert half.kv_tokens == pytest.approx(2 * plan(BIG, room).kv_tokens, rel=0.03)


def test_a_smaller_batch_leaves_more_room() -> None:
    """Sampling 1,024 sequences takes 5 GiB that 32 do not."""
    assert plan(BIG, budget(max_num_seqs=32)).kv - plan(BIG, budget()).kv > 5 * GIB


def test_120b_on_24_gb_is_refused_with_the_size_it_needs() -> None:
    """The refusal names need, room and the GPU that would do, and nothing that would not."""
    with pytest.raises(MemoryPlanError) as refusal:
        require_fit(BIG, budget(gpu_bytes=22 * GIB, max_num_seqs=32))
    assert str(refusal.value) == (
        "gpt-oss-120b does not fit: it needs 65.9 GiB for weights and 2.4 GiB to run, but utilisation 0.95 "
        "of this 22.0 GiB GPU leaves 20.9 GiB. It takes a GPU of at least 72 GiB."
    )


def test_a_batch_too_large_is_refused_with_the_limits_to_lower() -> None:
    """Where the weights fit and the step does not, the message names the step's limits."""
    with pytest.raises(MemoryPlanError, match=r"Lower max_num_seqs or max_num_batched_tokens\.$"):
        require_fit(BIG, budget(utilization=0.9))


def test_a_context_too_long_is_refused_with_the_longest_that_fits() -> None:
    """The message's number, taken as the setting, fits; one block more does not."""
    wanted = budget(max_model_len=100_000)
    with pytest.raises(MemoryPlanError) as refusal:
        require_fit(BIG, wanted)
    longest = plan(BIG, wanted).longest_context
    assert f"Set max_model_len to at most {longest}." in str(refusal.value)
    assert require_fit(BIG, budget(max_model_len=longest)).longest_context == longest
    with pytest.raises(MemoryPlanError):
        require_fit(BIG, budget(max_model_len=longest + 16))


def test_the_longest_context_stops_at_the_models_own() -> None:
    """More memory does not lengthen gpt-oss beyond 131,072 tokens."""
    assert plan(SMALL, budget(max_num_seqs=32)).longest_context == 131_072


def test_without_graphs_20b_fits_16_gb() -> None:
    """Captured graphs make the difference on the smallest card."""
    small = {"gpu_bytes": int(15.6 * GIB), "max_num_seqs": 8, "max_model_len": 8192}
    assert require_fit(SMALL, budget(**small, eager=True)).kv > 0
    with pytest.raises(MemoryPlanError):
        require_fit(SMALL, budget(**small))
