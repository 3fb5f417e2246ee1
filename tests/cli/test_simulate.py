"""The command ``simulate``."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from loadtest.fleet import scenarios
from loadtest.fleet.lab import Lab
from loadtest.fleet.scenarios import Case, Scenario
from loadtest.fleet.simulation import Setup
from loadtest.fleet.workload import Stream, Workload


def test_the_scenarios_are_listed() -> None:
    """Each with a word on what it asks."""
    result = CliRunner().invoke(app, ["simulate", "list"])
    assert result.exit_code == 0
    for name in scenarios.SCENARIOS:
        assert name in result.output


def test_an_unknown_scenario_is_named_with_those_there_are() -> None:
    """Wrong usage is exit status 2."""
    result = CliRunner().invoke(app, ["simulate", "nothing"])
    assert result.exit_code == 2
    assert "overload" in result.output


def test_a_scenario_prints_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each policy, a table for each part, and a picture."""

    def cases(lab: Lab, seeds: int) -> list[Case]:
        del lab
        setups = [
            Setup(Workload((Stream(2, (0.6, 0.3, 0.1)),), 110, seed=seed), replicas=2)
            for seed in range(seeds)
        ]
        return [Case("part one", setups), Case("part two", scenarios.under("random", setups))]

    monkeypatch.setitem(scenarios.SCENARIOS, "tiny", Scenario("for this test", cases))
    result = CliRunner().invoke(app, ["simulate", "tiny", "--seeds", "2", "--out", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    for word in ("part one", "part two", "effort", "random", "tokens/s", "tiny.png"):
        assert word in result.output
    assert (tmp_path / "new" / "tiny.png").read_bytes().startswith(b"\x89PNG")
