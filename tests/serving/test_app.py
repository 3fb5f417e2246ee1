"""Building an application refuses loudly what Ray would accept quietly."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.core.memory import MemoryPlanError
from cluster.serving import deploy
from cluster.serving.profiles import ProfileError
from cluster.settings import SettingsError, parse

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    from cluster.serving.app import BuildArgs, VariablesError, build, require_environment


def document(**pool: Any) -> dict[str, Any]:
    """Return a document with one pool, ``pool`` merged over it."""
    base = {"model": "gpt-oss-20b", "profile": "cpu", "engine": "sim"}
    return {
        "version": 1,
        "serving": {"engine_key_file": "/keys/engine", "pools": {"small": {**base, **pool}}},
        "models": {"gpt-oss-20b": {"pools": ["small"], "source": "/models/20b"}},
        "auth": {"keys": {"path": "/keys"}, "pepper_file": "/keys/pepper"},
    }


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set every variable that Ray needs."""
    for name, value in deploy.environment(parse(document(), origin="test")).items():
        monkeypatch.setenv(name, value)


def test_a_missing_variable_is_named_with_its_value_and_reason() -> None:
    """Without it Ray starts its own ingress, which has no Responses API, and says nothing."""
    settings = parse(document(), origin="test")
    environment = deploy.environment(settings)
    del environment["RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING"]
    with pytest.raises(VariablesError) as error:
        require_environment(settings, environment)
    assert str(error.value) == (
        "Set these before Ray starts, on every node:\n"
        "  RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING=1  "
        "(else Ray's own ingress, which lacks /v1/responses); it is None"
    )


def test_a_wrong_variable_is_refused() -> None:
    """A hard stop shorter than the one clock cuts streams at every scale event."""
    settings = parse(document(), origin="test")
    environment = {**deploy.environment(settings), "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "120"}
    with pytest.raises(VariablesError, match=r"HARD_STOP_AFTER_S=1830 .*; it is '120'"):
        require_environment(settings, environment)


def test_the_environment_that_we_name_is_enough() -> None:
    """What `environment` returns passes the check."""
    settings = parse(document(), origin="test")
    require_environment(settings, deploy.environment(settings))


@pytest.mark.usefixtures("ready")
def test_an_unknown_pool_names_those_there_are() -> None:
    """A typing error in serveConfigV2."""
    with pytest.raises(SettingsError, match=r"serving\.pools has no 'smal'\. It has: small\."):
        build(BuildArgs(pool="smal", settings=document()))


@pytest.mark.usefixtures("ready")
def test_an_unknown_profile_is_refused() -> None:
    """Before anything is loaded."""
    with pytest.raises(ProfileError, match="gpt-oss-20b has no profile 'h100'"):
        build(BuildArgs(pool="small", settings=document(profile="h100")))


@pytest.mark.usefixtures("ready")
def test_a_context_that_cannot_fit_is_refused() -> None:
    """The planner runs before Ray looks for a GPU."""
    with pytest.raises(MemoryPlanError, match="Set max_model_len to at most"):
        build(BuildArgs(pool="small", settings=document(profile="gpu-16gb", max_model_len=131_072)))


@pytest.mark.usefixtures("ready")
def test_the_document_may_be_a_file(tmp_path: Path) -> None:
    """As a chart mounts it; a mistake in it is reported with the file's name."""
    path = tmp_path / "config.yaml"
    path.write_text("version: 2")
    with pytest.raises(SettingsError, match=r"config\.yaml: 4 mistake"):
        build(BuildArgs(pool="small", config=path))


@pytest.mark.parametrize("args", [{}, {"settings": {}, "config": "/x"}, {"settings": {}, "extra": 1}])
def test_arguments_name_one_document(args: dict[str, Any]) -> None:
    """None, both, or a misspelled key is an error."""
    with pytest.raises(ValidationError):
        BuildArgs.model_validate({"pool": "small", **args})
