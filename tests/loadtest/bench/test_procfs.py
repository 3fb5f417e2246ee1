"""What is read from ``/proc``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.bench.procfs import parse_stat, usage


def stat(pid: int, session: int, *, user: int, system: int, pages: int, name: str = "x") -> str:
    """Return a line of ``/proc/<pid>/stat``, whose other fields are 9."""
    fields = ["S", "9", "9", str(session), *["9"] * 7, str(user), str(system), *["9"] * 8, str(pages), "9"]
    return f"{pid} ({name}) {' '.join(fields)}\n"


def test_a_name_may_hold_anything() -> None:
    """Blanks and brackets in a program's name do not move the fields."""
    found = parse_stat(stat(7, 5, user=150, system=50, pages=1024, name="a) S 1 (b"))
    assert found.session == 5
    assert found.usage.cpu_s == pytest.approx(200 / os.sysconf("SC_CLK_TCK"))
    assert found.usage.rss_mib == pytest.approx(1024 * os.sysconf("SC_PAGE_SIZE") / 2**20)


def test_all_processes_of_the_session_count_and_no_other(tmp_path: Path) -> None:
    """Children count with their leader; a stranger does not, nor a process that ended meanwhile."""
    for pid, session, user in ((10, 10, 100), (11, 10, 50), (12, 99, 1000)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat(pid, session, user=user, system=0, pages=1))
    (tmp_path / "13").mkdir()
    (tmp_path / "meminfo").write_text("")
    assert usage(10, proc=tmp_path).cpu_s == pytest.approx(150 / os.sysconf("SC_CLK_TCK"))


def test_a_busy_process_is_seen() -> None:
    """A real process that computes for 0.2 s of CPU is charged about so much."""
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", busy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = usage(child.pid)
        child.kill()
    assert 0.15 <= found.cpu_s <= 1.0
    assert found.rss_mib > 1
