"""The demo as a user starts and stops it, with the simulated engine under real Ray Serve."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, start_demo, wait_for_demo

pytestmark = pytest.mark.e2e

READY_LIMIT_S = 45
COMMAND = str(Path(sys.executable).parent / "gpt-oss-cluster")


def started_by(process: "subprocess.Popen[bytes]") -> dict[int, str]:
    """Return the processes below ``process``, with their names, by walking the tree."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            head, _, rest = (folder / "stat").read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        names[int(folder.name)] = head.partition("(")[2]
        children.setdefault(int(rest.split()[1]), []).append(int(folder.name))
    found, waiting = {}, [process.pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = names[child]
            waiting.append(child)
    return found


def still_running(ids: dict[int, str]) -> dict[int, str]:
    """Return those of ``ids`` that run, under the name they had."""
    left = {}
    for process, name in ids.items():
        try:
            head, _, rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if head.partition("(")[2] == name and rest.split()[0] != "Z":
            left[process] = name
    return left


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 0, id="Ctrl-C"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="kill -9"),
    ],
)
def test_the_demo_starts_soon_answers_and_ends_whole(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """The simulated demo is up within 45 s, answers, and leaves no process behind, however it is stopped."""
    output, state = tmp_path / "output.log", tmp_path / "state"
    begun = time.monotonic()
    process = start_demo(state, "sim", output)
    demo = wait_for_demo(process, state, output)
    took_s = time.monotonic() - begun
    answer = demo.client().chat.completions.create(
        model="gpt-oss-20b", messages=[{"role": "user", "content": "Hello"}]
    )
    demo.close()
    ours = started_by(process)
    process.send_signal(number)
    assert process.wait(timeout=60) == status
    deadline = time.monotonic() + 30
    while still_running(ours) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert still_running(ours) == {}
    assert answer.choices[0].message.content
    assert {"haproxy", "raylet"} <= set(ours.values())
    assert took_s < READY_LIMIT_S


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    """A taken port ends the demo at once, with the port and the option that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = subprocess.run(
            [COMMAND, "demo", "--engine", "sim", "--port", str(port), "--state-dir", str(tmp_path / "state")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert found.returncode == 1
    assert str(port) in found.stderr
    assert "--port" in found.stderr


def test_a_missing_checkpoint_is_told_before_anything_starts(tmp_path: Path) -> None:
    """Without its checkpoint the demo ends at once, and says which command makes it."""
    command = [COMMAND, "demo", "--free-ports", "--state-dir", str(tmp_path / "state")]
    found = subprocess.run(
        [*command, "--checkpoint", str(tmp_path / "nowhere")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert found.returncode == 1
    assert "nowhere" in found.stderr
    assert "demo-model build" in found.stderr
