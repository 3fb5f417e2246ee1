"""The benchmark as a whole, for a few seconds, on real Ray Serve."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.e2e
def test_a_short_run_measures_both_systems(tmp_path: Path) -> None:
    """It writes JSON and a plot, serves on both ways, and its last line agrees with its exit status."""
    options = ["--runs", "1", "--seconds", "6", "--load", "0.7", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.effort", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    last = done.stdout.splitlines()[-1]
    assert (last == "3 of 3 bars held") == (done.returncode == 0), done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "effort.json").read_text())
    for system in ("gateway", "round-robin"):
        (low,) = [run["low"] for run in found["figures"][system]]
        assert low["failed"] == 0
        assert low["served"] > 0
        assert low["p50_s"] < 5
    assert (tmp_path / "out" / "effort.png").read_bytes().startswith(b"\x89PNG")
