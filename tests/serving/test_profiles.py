"""Every profile fits its GPU, and every flag says why."""

import pytest

from cluster.core.memory import MemoryPlanError
from cluster.serving import profiles
from cluster.serving.profiles import COMMON, PROFILES, Profile, ProfileError
from cluster.settings import PoolSettings


def pool(model: str, profile: str, **changes: int) -> PoolSettings:
    """Return a pool of ``model`` on ``profile``."""
    return PoolSettings.model_validate({"model": model, "profile": profile, **changes})


@pytest.mark.parametrize("profile", PROFILES, ids=lambda row: f"{row.model} on {row.name}")
def test_profile_fits_its_gpu(profile: Profile) -> None:
    """The planner finds room for the profile's own context; a CPU has no plan."""
    plan = profiles.memory_plan(pool(profile.model, profile.name))
    assert (plan is None) == (profile.gpu_bytes == 0)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda row: f"{row.model} on {row.name}")
def test_profile_fixes_the_limits_that_vllm_would_guess(profile: Profile) -> None:
    """Under Ray vLLM may see no GPU to derive batch limits from."""
    assert {"max_model_len", "max_num_seqs", "max_num_batched_tokens"} <= set(profile.flags)


def test_every_flag_has_a_reason() -> None:
    """The table has no bare number."""
    assert all(reason for *_, reason in profiles.table())


def test_the_table_covers_every_profile_once() -> None:
    """Models and GPUs of the product, each pair in one row group."""
    assert {(model, name) for model, name, *_ in profiles.table()} == {
        ("*", "*"),
        ("gpt-oss-120b", "h100-80gb"),
        ("gpt-oss-120b", "h200"),
        ("gpt-oss-120b", "b200"),
        ("gpt-oss-120b", "a100-80gb"),
        ("gpt-oss-120b", "cpu"),
        ("gpt-oss-20b", "gpu-16gb"),
        ("gpt-oss-20b", "gpu-24gb"),
        ("gpt-oss-20b", "gpu-80gb"),
        ("gpt-oss-20b", "cpu"),
    }


@pytest.mark.parametrize("profile", PROFILES, ids=lambda row: f"{row.model} on {row.name}")
def test_every_pool_orders_its_queue_by_deadline(profile: Profile) -> None:
    """With first come, first served vLLM takes priorities and ignores them."""
    assert profiles.engine_flags(pool(profile.model, profile.name))["scheduling_policy"] == "priority"


def test_a_pools_own_limits_win() -> None:
    """``max_model_len`` and ``max_num_seqs`` of the settings replace the profile's."""
    flags = profiles.engine_flags(pool("gpt-oss-20b", "gpu-80gb", max_model_len=4096, max_num_seqs=3))
    assert (flags["max_model_len"], flags["max_num_seqs"]) == (4096, 3)


def test_a_pools_own_limits_are_planned_too() -> None:
    """A context that the card cannot hold is refused before anything loads."""
    with pytest.raises(MemoryPlanError, match=r"Set max_model_len to at most \d+\."):
        profiles.memory_plan(pool("gpt-oss-20b", "gpu-16gb", max_model_len=131_072))


def test_unknown_profile_names_those_there_are() -> None:
    """120b has no 24 GB profile, because it does not fit; the error lists what has."""
    with pytest.raises(ProfileError) as error:
        profiles.find("gpt-oss-120b", "gpu-24gb")
    assert str(error.value) == (
        "gpt-oss-120b has no profile 'gpu-24gb': its 66 GiB of weights do not fit 22 GiB. "
        "It has: h100-80gb, h200, b200, a100-80gb, cpu."
    )


def test_prompts_stay_out_of_the_logs() -> None:
    """VLLM's request log, which holds prompts, is off in every profile."""
    assert COMMON["enable_log_requests"].value is False


def test_the_engines_plugin_is_where_the_flag_says() -> None:
    """VLLM ignores a missing plugin file without an error."""
    assert profiles.PLUGIN.is_file()
