"""Programs that tests start: installed where this user may, else their tests are skipped with the command."""

import socket

import pytest

from tests import system_packages
from tests.redis_servers import RedisServer


@pytest.mark.integration
def test_a_real_redis_answers(redis_server: RedisServer) -> None:
    """The installed redis-server starts for a test, on loopback, and speaks its protocol."""
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not on the path names its package and the command that installs it."""
    monkeypatch.setenv("PATH", "/nowhere")
    packages = system_packages.missing()
    assert packages == ["debootstrap", "redis-server", "strace"]
    command = system_packages.install_command(packages)
    assert command.endswith("--no-install-recommends debootstrap redis-server strace")


def test_without_root_the_command_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user who may not install is told how, and the tests go on."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert system_packages.main() == 0
    assert "apt-get install" in capsys.readouterr().err
