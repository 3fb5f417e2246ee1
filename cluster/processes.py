"""End everything that a run started, and nothing else.

Ray, HAProxy and vLLM start processes of their own, some of which outlive a killed parent. All of them inherit
the environment, so a run marks its environment and its processes are those that carry the mark.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

MARK = "GPT_OSS_CLUSTER_RUN"
"""Environment variable that holds a run's mark."""

GRACE_S = 5.0
"""Seconds between the request to end and the kill."""


def marked(mark: str, *, proc: Path = Path("/proc")) -> list[int]:
    """Return the ids of the processes that carry ``mark``, this one excepted."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it ended meanwhile, or it is somebody else's
        if wanted in environment.split(b"\0"):
            found.append(int(folder.name))
    return found


def end(mark: str, *, grace_s: float = GRACE_S) -> int:
    """Ask every process with ``mark`` to end, kill those that stay; return how many there were."""
    first = marked(mark)
    _signal(first, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    while left := marked(mark):
        _signal(left, signal.SIGKILL)
        time.sleep(0.1)
    return len(first)


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


def _signal(ids: list[int], number: signal.Signals) -> None:
    for process in ids:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue  # it ended meanwhile


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1])
