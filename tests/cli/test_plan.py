"""The command ``plan``."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from cluster.cli import app
from tests.test_settings import RIGHT

SMALL = ("--users", "30", "--gpu", "b200")


def run(*arguments: str, status: int = 0) -> Result:
    """Run ``plan``, check its exit status and return the result."""
    result = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "140"})
    assert result.exit_code == status, result.output
    return result


def test_users_and_a_gpu_are_enough_to_ask(tmp_path: Path) -> None:
    """The answer is a sentence, a table and what it assumes; a picture where one is asked for."""
    picture = tmp_path / "plan.png"
    told = run(*SMALL, "--plot", str(picture)).output
    assert "1 b200 GPU, 2 with one to spare." in told
    for words in ("30 users x 12 requests an hour", "1/5/30 s", "InferenceMAX", "not a measurement"):
        assert words in " ".join(told.split())
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_has_every_figure(tmp_path: Path) -> None:
    """Objectives come from the settings document where there is one; efforts that never come are null."""
    low = {"max_output_tokens": 8192, "expected_output_tokens": 400}
    efforts = {"low": {**low, "slo": {"wait_s": 2, "inter_token_ms": 40}}}
    models = {"gpt-oss-120b": {"pools": ["big"], "source": "/models/big", "efforts": efforts}}
    pools = {"big": {"model": "gpt-oss-120b", "profile": "b200"}}
    document = tmp_path / "config.yaml"
    document.write_text(
        yaml.safe_dump({**RIGHT, "serving": {**RIGHT["serving"], "pools": pools}, "models": models})
    )
    told = json.loads(run(*SMALL, "--mix", "100/0/0", "--config", str(document), "--json").stdout)
    assert (told["gpus"], told["gpus_with_spare"]) == (1, 2)
    assert told["objective"]["wait_s"] == [2, 5, 30]
    assert told["objective"]["token_ms"] == [40, 50, 50]
    [least, *_] = told["sizes"]
    assert least["misses"] == []
    assert 0 < least["first_token_p95_s"]["low"] < 1
    assert least["first_token_p95_s"]["high"] is None


def test_no_answer_is_a_finding() -> None:
    """Exit status 1, and what the load alone would fill."""
    told = run("--users", "20000", "--gpu", "h200", "--max-gpus", "8", status=1).output
    assert "No number of h200 GPUs that may be had holds the objective: the tokens alone fill 81 GPUs" in told


WRONG = [
    pytest.param("--gpu", "gpu-24gb", "66 GiB of weights do not fit 22 GiB", id="too small a GPU"),
    pytest.param("--gpu", "a100-80gb", "there are: b200, h200, h100-80gb", id="a GPU without a curve"),
    pytest.param("--gpu", "[/x]", "It has: h100-80gb", id="markup"),
    pytest.param(
        "--model", "gpt-oss-20b", "only gpt-oss-120b has published curves", id="a model without a curve"
    ),
    pytest.param("--mix", "60/30/20", "add up to 100", id="a mix of 110"),
    pytest.param("--mix", "70/30", "three shares", id="a mix of two"),
    pytest.param("--mix", "nan/30/10", "three shares", id="a mix of nan"),
    pytest.param("--outputs", "400/1500/900000", "high effort gives 1 to 65,536 tokens", id="long outputs"),
    pytest.param("--prompt", "8000-200", "the shortest and the longest", id="prompts upside down"),
    pytest.param("--prompt", "1-1000000", "131,072 tokens on b200", id="long prompts"),
    pytest.param("--wait-s", "1/5", "such as 1/5/30", id="two waits"),
    pytest.param("--wait-s", "0/5/30", "positive numbers", id="no wait"),
    pytest.param("--inter-token-ms", "fast", "such as 50", id="a pace in words"),
    pytest.param("--peak", "nan", "less than or equal to 20", id="a peak of nan"),
    pytest.param("--requests-per-hour", "inf", "less than or equal to 3600", id="requests without end"),
    pytest.param("--plot", "/nowhere/plan.png", "a folder that is there", id="a plot nowhere"),
]


@pytest.mark.parametrize(("option", "value", "mend"), WRONG)
def test_wrong_usage_names_the_option_and_the_mend(option: str, value: str, mend: str) -> None:
    """Exit status 2, before anything is simulated."""
    told = " ".join(run(*SMALL, option, value, status=2).output.split())
    assert option in told
    assert mend in told


def test_a_settings_document_without_the_model_is_named(tmp_path: Path) -> None:
    """It has no objectives to hold then."""
    document = tmp_path / "config.yaml"
    document.write_text(yaml.safe_dump(RIGHT))
    assert "no model gpt-oss-120b" in run(*SMALL, "--config", str(document), status=2).output
