"""Real Redis servers for tests: each of a test's own, on a free port of loopback, ended with it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from cluster.settings import RedisSettings
from tests import system_packages

START_S = 10


@dataclass
class RedisServer:
    """One redis-server process and what it was started with."""

    folder: Path
    port: int
    options: dict[str, str] = field(default_factory=dict)
    watches: Sequence[str] = ()
    """What makes it a Sentinel: its directives, without that word."""
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start, or start again with the same folder, and wait until it answers."""
        own = {} if self.watches else {"save": ""}
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            **own,
            **self.options,
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", *value.split(" "))]
        if self.watches:
            memory = self.folder / "sentinel.conf"  # a Sentinel keeps there what it learns
            memory.write_text("".join(f"sentinel {line}\n" for line in self.watches))
            arguments = [str(memory), "--sentinel", *arguments]
        with (self.folder / f"redis-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", *arguments], stdout=log, stderr=log)
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        """Wait until it accepts connections."""
        port, deadline = int(self.options.get("tls-port", self.port)), time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return
        raise TimeoutError(f"nothing listens on {port}: {self.log}")

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / f"redis-{self.port}.log").read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it; SIGKILL leaves it no time for anything."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(timeout=START_S)
            self.process = None

    def freeze(self) -> None:
        """Stop it as a hung machine would: connections stay, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> "redis.Redis":
        """Return a client of another make than the store's own, to look into it."""
        return redis.Redis(port=self.port, socket_timeout=START_S, **options)

    def settings(self, **changes: Any) -> RedisSettings:
        """Return the settings that lead to it."""
        return RedisSettings.model_validate({"url": f"redis://127.0.0.1:{self.port}", **changes})


StartRedis = Callable[..., RedisServer]


def require_redis() -> None:
    """Skip where the program is missing."""
    if shutil.which("redis-server") is None:
        pytest.skip(system_packages.install_command(["redis-server"]))


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[StartRedis]:
    """Return a function that starts a server with the options given; skip where the program is missing.

    With positions, the directives of a Sentinel, it starts one.
    """
    require_redis()
    with ExitStack() as started:

        def start(*watches: str, **options: str) -> RedisServer:
            port = free_port()
            folder = tmp_path / f"redis-{port}"
            folder.mkdir()
            server = RedisServer(
                folder, port, {name.replace("_", "-"): value for name, value in options.items()}, watches
            )
            started.callback(server.end, signal.SIGKILL)
            server.start()
            return server

        yield start


@pytest.fixture
def redis_server(start_redis: StartRedis) -> RedisServer:
    """Return a plain server that keeps nothing on disk."""
    return start_redis()


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
