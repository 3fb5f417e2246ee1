"""End everything that a run started, and nothing else.

Ray, HAProxy and vLLM start processes of their own, some of which outlive a killed parent. All of them inherit
the environment, so a run marks its environment; its processes are those that carry the mark, and their
descendants, since some programs write their title over their environment.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MARK = "GPT_OSS_CLUSTER_RUN"
"""Environment variable that holds a run's mark."""

GRACE_S = 5.0
"""Seconds between the request to end and the kill."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process; ``started`` tells it from a later one with the same id."""

    id: int
    parent: int
    started: int
    """Start time in clock ticks since boot."""


def found(mark: str, *, proc: Path = Path("/proc")) -> set[Process]:
    """Return the live processes of the run with ``mark``, this one excepted."""
    everything = _everything(proc)
    ours = {process for process in everything if _carries(proc, process.id, mark)}
    while more := {
        process for process in everything - ours if process.parent in {known.id for known in ours}
    }:
        ours |= more
    return {process for process in ours if process.id != os.getpid()}


def end(mark: str, *, grace_s: float = GRACE_S) -> int:
    """Ask every process of the run to end, kill those that stay; return how many there were."""
    ours = found(mark)
    _signal(ours, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while _left(mark, ours) and time.monotonic() < deadline:
        time.sleep(0.1)
    while left := _left(mark, ours):
        ours |= left
        _signal(left, signal.SIGKILL)
        time.sleep(0.1)
    return len(ours)


def guard(mark: str, environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start a process that ends the run's processes when this one is gone, even after ``kill -9``.

    It waits for the end of its standard input, which this process alone holds open.
    """
    unmarked = {name: value for name, value in environ.items() if name != MARK}
    return subprocess.Popen(
        [sys.executable, "-m", "cluster.processes", mark],
        stdin=subprocess.PIPE,
        env=unmarked,
        start_new_session=True,
    )


def _left(mark: str, ours: set[Process]) -> set[Process]:
    """Return what lives of ``ours``, orphans included, and of the run."""
    known = {(process.id, process.started) for process in ours}
    alive = {process for process in _everything(Path("/proc")) if (process.id, process.started) in known}
    return alive | found(mark)


def _everything(proc: Path) -> set[Process]:
    """Return all processes that run; those that have ended and wait for their parent do not count."""
    running = set()
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        if fields[0] not in {"Z", "X"}:
            running.add(Process(int(folder.name), int(fields[1]), int(fields[19])))
    return running


def _carries(proc: Path, process: int, mark: str) -> bool:
    try:
        environment = (proc / str(process) / "environ").read_bytes()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False  # it ended meanwhile, or it is somebody else's
    return f"{MARK}={mark}".encode() in environment.split(b"\0")


def _signal(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process.id, number)
        except ProcessLookupError:
            continue  # it ended meanwhile


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1])
