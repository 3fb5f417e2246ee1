"""Nothing calls home: the stack serves where there is loopback alone, and no system call asks for more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import settings
from cluster.demo import document as demo
from cluster.demo.document import State
from cluster.demo.machine import Ports
from cluster.serving import deploy
from tests.conftest import ROOT
from tests.deploy import loopback
from tests.deploy.loopback import addressed, cut_off, elsewhere

pytestmark = pytest.mark.skipif(bool(loopback.why_not()), reason=loopback.why_not() or "it can")

V4 = '1 connect(3<TCP:[1]>, {sa_family=AF_INET, sin_port=htons(%s), sin_addr=inet_addr("%s")}, 16) = 0'
V6 = '1 sendto(3, "", 9, 0, {sa_family=AF_INET6, sin6_port=htons(%s), inet_pton(AF_INET6, "%s", &a)}, 28) = 9'
LINES = {
    V4 % (80, "127.0.0.1"): True,
    V4 % (443, "10.1.2.3"): False,
    V6 % (80, "::1"): True,
    V6 % (443, "2a00::1"): False,
}
BOOTSTRAP = "ray_bootstrap_config.yaml"


@pytest.mark.parametrize(("line", "stays"), LINES.items())
def test_a_line_of_a_trace_is_read_right(line: str, stays: bool) -> None:
    """Loopback stays here; other addresses do not."""
    assert (elsewhere(line) == []) == stays
    assert addressed(line) == [line]


def test_a_call_home_would_be_seen(tmp_path: Path) -> None:
    """A process that tries to leave cannot, and it is known: an address by the trace, a name by its query."""
    trace, names = tmp_path / "trace", tmp_path / "names"
    script = """
import pathlib, socket, subprocess, sys
from tests.deploy.loopback import name_server
with name_server(pathlib.Path(sys.argv[1])):
    for host in ("telemetry.example.com", "10.1.2.3"):
        call = f"import socket; socket.create_connection(({host!r}, 443))"
        print(subprocess.run([sys.executable, "-c", call], capture_output=True, text=True).stderr)
"""
    tried = subprocess.run(
        cut_off(trace, sys.executable, "-c", script, names),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Network is unreachable" in tried.stdout, tried.stderr
    assert all("10.1.2.3" in line for line in elsewhere(trace.read_text()))
    assert elsewhere(trace.read_text())
    assert "telemetry.example.com" in names.read_text().split()


def run(kind: str, folder: Path, limit_s: float, variables: dict[str, str] | None = None) -> str:
    """Run a stack cut off; return its trace.

    Its home has the file that the chart gives to Ray's head.
    """
    trace, home = folder / "trace", folder / "home"
    home.mkdir()
    (home / BOOTSTRAP).write_text("{}")
    done = subprocess.run(
        cut_off(trace, sys.executable, "-m", "tests.deploy.offline_stack", kind, folder),
        cwd=ROOT,
        env={**os.environ, "HOME": str(home), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
    return trace.read_text()


def asked(folder: Path) -> set[str]:
    """Return the names that were asked for."""
    return set((folder / "names").read_text().split())


@pytest.mark.integration
def test_the_gateway_answers_without_a_network(tmp_path: Path) -> None:
    """An official client gets its answer; every address that anything named is loopback."""
    trace = run("gateway", tmp_path, 120)
    assert len(addressed(trace)) > 2
    assert elsewhere(trace) == []
    assert asked(tmp_path) == set()


@pytest.mark.e2e
def test_ray_serve_answers_without_a_network(tmp_path: Path) -> None:
    """The demo starts, answers and ends: Ray, HAProxy, two pools and the gateway, usage reports off."""
    trace = run("demo", tmp_path, 400)
    assert len(addressed(trace)) > 20
    assert elsewhere(trace) == []
    assert asked(tmp_path) == set()


@pytest.mark.e2e
@pytest.mark.parametrize("ours", [True, False])
def test_a_head_started_as_kuberay_does_asks_for_nothing(tmp_path: Path, ours: bool) -> None:
    """With our variables it stays quiet; without the address of nowhere, Ray reports that reports are off."""
    state = State(tmp_path / "state")
    document = demo.document(state, "sim", Ports(), tmp_path, tmp_path)
    variables = deploy.environment(settings.parse(document, origin="test"))
    if not ours:
        del variables["RAY_USAGE_STATS_REPORT_URL"]
    trace = run("head", tmp_path, 200, variables)
    assert elsewhere(trace) == []
    assert asked(tmp_path) == (set() if ours else {"usage-stats.ray.io"})
