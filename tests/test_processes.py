"""A run's processes end with it, and no others do."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from cluster import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN_SCRIPT = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
STUBBORN = [sys.executable, "-c", STUBBORN_SCRIPT]


def start(mark: str, command: list[str] = SLEEP) -> "subprocess.Popen[bytes]":
    """Start a process that carries ``mark``, away from this process's group."""
    environment = {**os.environ, processes.MARK: mark}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True)


def test_only_marked_processes_end() -> None:
    """A process of another run survives the end of this one."""
    mine, other = uuid.uuid4().hex, uuid.uuid4().hex
    with start(mine) as target, start(other) as bystander:
        assert [process.id for process in processes.found(mine)] == [target.pid]
        assert processes.end(mine) == 1
        assert target.wait(timeout=5) == -signal.SIGTERM
        assert bystander.poll() is None
        bystander.kill()


def test_a_process_that_ignores_the_request_is_killed() -> None:
    """After the grace a process that ignores SIGTERM gets SIGKILL."""
    mark = uuid.uuid4().hex
    with start(mark, STUBBORN) as target:
        assert target.stdout is not None
        target.stdout.readline()
        processes.end(mark, grace_s=0.2)
        assert target.wait(timeout=5) == -signal.SIGKILL


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_guard_ends_the_run_when_its_parent_is_killed() -> None:
    """After ``kill -9`` of a run's main process, the guard ends what the run started."""
    mark = uuid.uuid4().hex
    script = (
        "import os, subprocess, sys, time\n"
        "from cluster import processes\n"
        f"processes.guard('{mark}', os.environ)\n"
        f"os.environ[processes.MARK] = '{mark}'\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        until(lambda: len(processes.found(mark)) == 1)  # the kernel shows a new environment a moment late
        parent.kill()
        until(lambda: not processes.found(mark))


def test_a_child_that_dropped_the_mark_ends_too() -> None:
    """A process that wrote over its environment is found through its parent, also when that ends first."""
    mark = uuid.uuid4().hex
    unmarked_child = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], env={})\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with start(mark, [sys.executable, "-c", unmarked_child]) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert {process.id for process in processes.found(mark)} == {parent.pid, child}
        assert processes.end(mark) == 2
    assert child not in {process.id for process in processes.found(mark)}
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
