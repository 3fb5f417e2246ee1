"""Programs that tests start: installed where this user may, else their tests are skipped with the command."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import system_packages


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """Start a redis-server of this test's own on a free port; skip where it is missing."""
    if shutil.which("redis-server") is None:
        pytest.skip(system_packages.install_command(["redis-server"]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL) as server:
        wait_until_listening(port)
        yield port
        server.terminate()


def wait_until_listening(port: int, limit_s: float = 10) -> None:
    """Wait until a server listens on ``port``."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nothing listens on {port}")


@pytest.mark.integration
def test_a_real_redis_answers(redis_port: int) -> None:
    """The installed redis-server starts for a test, on loopback, and speaks its protocol."""
    with socket.create_connection(("127.0.0.1", redis_port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not on the path names its package and the command that installs it."""
    monkeypatch.setenv("PATH", "/nowhere")
    packages = system_packages.missing()
    assert packages == ["redis-server"]
    assert system_packages.install_command(packages).endswith("--no-install-recommends redis-server")


def test_without_root_the_command_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user who may not install is told how, and the tests go on."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert system_packages.main() == 0
    assert "apt-get install" in capsys.readouterr().err
