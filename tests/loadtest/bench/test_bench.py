"""The benchmark as a whole, for a few seconds, with this gateway alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.integration
def test_a_short_run_measures_and_judges(tmp_path: Path) -> None:
    """It writes JSON and a plot, ends with the count of bars, and fails because bars were not measured."""
    options = [
        "--only",
        "gateway",
        "--rounds",
        "1",
        "--seconds",
        "0.3",
        "--skip-soak",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "1 of 7 bars held", done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    (one,) = found["results"]["gateway"]["rounds"]
    assert one["chunks"]["events_per_write"] > 0.9
    assert one["chunks"]["share"] <= 0.6
    assert all(0 < figures["cpu_us"] < 10_000 for figures in one["requests"].values())
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")
