"""What the demo needs of the machine, checked before anything is started."""

import shutil
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Engine = Literal["vllm", "sim"]

NEEDED_MEMORY_GIB: Mapping[Engine, float] = {"vllm": 9.0, "sim": 3.0}
"""Memory that must be free, by engine: the measured peak of all processes, and a tenth on top."""
NEEDED_DISK_GIB = 1.0
"""Disk for Ray's session folder (logs and sockets)."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port that the demo listens on, all of them on 127.0.0.1 but HAProxy's two own."""

    gateway: int = 8080
    admin: int = 8081
    serve: int = 8000
    fallback: int = 8500
    """Serve's Python proxy, which answers while no replica is up."""
    haproxy_stats: int = 8404
    haproxy_metrics: int = 9101
    direct_min: int = 30000
    """First port of the replicas and routers that HAProxy talks to."""
    direct_max: int = 31000

    def listened(self) -> dict[str, int]:
        """Return the ports that must be free, by the option that changes each."""
        return {
            "--port": self.gateway,
            "--admin-port": self.admin,
            "--serve-port": self.serve,
            "--fallback-port": self.fallback,
            "--haproxy-stats-port": self.haproxy_stats,
            "--haproxy-metrics-port": self.haproxy_metrics,
        }

    def environment(self) -> dict[str, str]:
        """Return the variables that move Serve's and HAProxy's ports, read by every process of Ray."""
        return {
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(self.fallback),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.haproxy_stats),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.haproxy_metrics),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(self.direct_min),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(self.direct_max),
        }


def free_ports() -> Ports:
    """Return ports that were free a moment ago, so that two demos can run side by side."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
    gateway, admin, serve, fallback, stats, metrics = (server.getsockname()[1] for server in servers)
    for server in servers:
        server.close()
    direct = 12000 + gateway % 180 * 100  # below the ephemeral ports; 2 pools x (1 replica + 2 routers) fit
    return Ports(gateway, admin, serve, fallback, stats, metrics, direct, direct + 99)


def port_is_free(port: int) -> bool:
    """Return whether a server could listen on ``port``."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def complaints(
    engine: Engine, *, busy: Iterable[tuple[str, int]], memory_gib: float, disk_gib: float, state: Path
) -> list[str]:
    """Return why the demo cannot start here, each with its mend; empty when it can."""
    found = [
        f"Port {port} is in use. Stop what listens there (`ss -ltnp 'sport = :{port}'` names it), "
        f"or choose another: gpt-oss-cluster demo {option} PORT"
        for option, port in busy
    ]
    needed = NEEDED_MEMORY_GIB[engine]
    if memory_gib < needed:
        smaller = " `make demo ENGINE=sim` needs less." if engine == "vllm" else ""
        found.append(f"{memory_gib:.1f} GiB of memory are free; the demo needs {needed:.0f} GiB.{smaller}")
    if disk_gib < NEEDED_DISK_GIB:
        found.append(f"{disk_gib:.1f} GiB are free at {state}; the demo needs {NEEDED_DISK_GIB:.0f} GiB.")
    return found


def inspect(engine: Engine, ports: Ports, state: Path) -> list[str]:
    """Look at this machine and return `complaints`."""
    return complaints(
        engine,
        busy=[(option, port) for option, port in ports.listened().items() if not port_is_free(port)],
        memory_gib=available_memory_gib(Path("/proc/meminfo").read_text(encoding="ascii")),
        disk_gib=shutil.disk_usage(state).free / 2**30,
        state=state,
    )


def available_memory_gib(meminfo: str) -> float:
    """Read the memory that can be had without swapping from the text of ``/proc/meminfo``."""
    fields = dict(line.partition(":")[::2] for line in meminfo.splitlines())
    return int(fields["MemAvailable"].split()[0]) / 2**20
