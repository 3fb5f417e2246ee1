"""What simulations came to is remembered as long as it is true."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.fleet import lab
from loadtest.fleet.lab import Lab
from loadtest.fleet.memory import Memory
from tests.loadtest.fleet.test_acceptance import OURS_RUN
from tests.loadtest.fleet.test_simulation import SMALL


def test_a_measure_comes_back_as_it_was(tmp_path: Path) -> None:
    """Also in the next run, also one that is not a number."""
    low = replace(OURS_RUN.by_effort["low"], end_p95_s=float("nan"))
    odd = replace(OURS_RUN, by_effort={**OURS_RUN.by_effort, "low": low})
    Memory(tmp_path).keep(SMALL, odd)
    assert repr(Memory(tmp_path).recall(SMALL)) == repr(odd)
    assert Memory(tmp_path).recall(replace(SMALL, replicas=4)) is None


def test_nothing_is_remembered_of_other_code(tmp_path: Path) -> None:
    """A change of a source makes a new file, and the old one goes."""
    source = tmp_path / "core.py"
    source.write_text("a")
    Memory(tmp_path / "out", [source]).keep(SMALL, OURS_RUN)
    source.write_text("b")
    changed = Memory(tmp_path / "out", [source])
    assert changed.recall(SMALL) is None
    changed.keep(SMALL, OURS_RUN)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_the_lab_does_not_simulate_what_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was interrupted goes on where it was."""
    memory = Memory(tmp_path)
    memory.keep(SMALL, OURS_RUN)
    monkeypatch.setattr(lab, "simulate", None)  # whoever calls it fails
    lines: list[str] = []
    with Lab(lines.append, memory=memory) as made:
        assert made.measure([SMALL, SMALL]) == [OURS_RUN, OURS_RUN]
