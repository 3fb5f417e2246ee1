"""The built-in Redis, as its start script starts a real one."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.helm.rendering import Rendered
from tests.redis_servers import free_port, require_redis

PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def port(default: Rendered, tmp_path: Path) -> Iterator[int]:
    """Run the chart's script and settings on this machine, in folders of its own."""
    require_redis()
    number, files = free_port(), default.named("ConfigMap", "-redis")["data"]
    for name, text in files.items():
        moved = text.replace("/etc/redis-secret", str(tmp_path)).replace("/etc/redis", str(tmp_path))
        (tmp_path / name).write_text(moved.replace("dir /data", f"dir {tmp_path}"))
    with (tmp_path / "redis.conf").open("a") as settings:
        settings.write(f"port {number}\nbind 127.0.0.1\n")
    (tmp_path / "password").write_text(PASSWORD)
    process = subprocess.Popen(["sh", str(tmp_path / "start.sh")], env={"PATH": os.environ["PATH"]})
    try:
        yield number
        assert PASSWORD not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert PASSWORD not in Path(f"/proc/{process.pid}/environ").read_text()
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_it_starts_with_password_and_without_forgetting(port: int) -> None:
    """Nobody gets in without the password; limits are never evicted, and budgets outlive a restart."""
    with redis.Redis(port=port, password=PASSWORD) as client:
        _until_up(client)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory") == {"maxmemory": str(256 * 1024**2)}
        assert client.set("a", "b")
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("a")


def _until_up(client: "redis.Redis") -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
