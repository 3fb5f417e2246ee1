"""Who is measured: this gateway in its production setting, its peers, and a bare relay as the floor.

Peers run as they come, with their own defaults for routing and logs, and without limits; LiteLLM has a master
key and its Prometheus metrics, which the other peers export by themselves. nginx must not buffer streams.
"""

import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import yaml

from cluster.settings import DailyTokens, RateLimits
from cluster.stores import admin
from cluster.stores.key_files import KeyDirectory
from cluster.stores.key_index import load_pepper
from loadtest.bench import peers
from loadtest.bench.answers import MODEL
from loadtest.bench.servers import BenchError, free_port, program
from loadtest.machine import ROOT

_NEVER_REACHED = 10**8
"""Limits that are checked on every request and never met: the largest rate that a tenant may have."""
_NEVER_SPENT = 10**12
"""The same for a day's tokens."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a contender finds when it is started."""

    folder: Path
    """A folder of its own."""
    port: int
    """Where it shall listen, on loopback."""
    engine_port: int
    redis_port: int


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a contender."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    key: str = "none"
    """The API key that its clients send."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One system under test."""

    name: str
    title: Callable[[], str]
    """Its name and version as the report shows it."""
    prepare: Callable[[Site], Launch]
    """Write its configuration and say how to start it. Raises `BenchError`."""
    ready_s: float = 30.0
    """Longest time until its first good answer."""


def _ours(site: Site) -> Launch:
    keys, pepper, engine_key = site.folder / "keys", site.folder / "pepper", site.folder / "engine-key"
    for path in (pepper, engine_key):
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    now = datetime.now(UTC)
    vault = KeyDirectory(keys)
    admin.set_tenant(vault, "bench", now=now, limits=_all_limits())
    made = admin.create_key(vault, "bench", pepper=load_pepper(pepper), now=now)
    config = site.folder / "config.yaml"
    config.write_text(yaml.safe_dump(_document(site, keys, pepper, engine_key), sort_keys=False))
    command = [sys.executable, "-m", "cluster", "gateway", "--config", str(config)]
    return Launch(command, {"PYTHONPATH": str(ROOT)}, key=made.key)


def _all_limits() -> RateLimits:
    day = DailyTokens(low=_NEVER_SPENT, medium=_NEVER_SPENT, high=_NEVER_SPENT)
    return RateLimits(
        requests_per_min=_NEVER_REACHED,
        tokens_per_min=_NEVER_REACHED,
        concurrent=_NEVER_REACHED,
        tokens_per_day=day,
    )


def _document(site: Site, keys: Path, pepper: Path, engine_key: Path) -> dict[str, object]:
    """Return a settings document as production has it: keys, every limit, effort, metrics, usage lines."""
    return {
        "version": 1,
        "gateway": {
            "listen": f"127.0.0.1:{site.port}",
            "admin_listen": f"127.0.0.1:{free_port()}",
            "stream": {"drain_s": 1},
        },
        "serving": {
            "url": f"http://127.0.0.1:{site.engine_port}",
            "engine_key_file": str(engine_key),
            "pools": {MODEL: {"model": MODEL, "profile": "h100-80gb"}},
        },
        "models": {MODEL: {"pools": [MODEL], "source": "/models/gpt-oss-120b"}},
        "limits": {"store": "redis", "redis": {"url": f"redis://127.0.0.1:{site.redis_port}"}},
        "auth": {"keys": {"source": "file", "path": str(keys)}, "pepper_file": str(pepper)},
    }


_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream engine {{ server 127.0.0.1:{engine_port}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def _nginx(site: Site) -> Launch:
    config = site.folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=site.folder, port=site.port, engine_port=site.engine_port))
    command = [program("nginx", "nginx"), "-p", str(site.folder), "-e", "stderr", "-c", str(config)]
    return Launch(command)


def _relay(site: Site) -> Launch:
    command = [sys.executable, "-m", "loadtest.bench.relay", str(site.port), str(site.engine_port)]
    return Launch(command, {"PYTHONPATH": str(ROOT)})


def _smg(site: Site) -> Launch:
    return Launch([peers.program("smg", "smg"), "launch", "--backend", "vllm", *_router_options(site)])


def _vllm_router(site: Site) -> Launch:
    return Launch([peers.program("vllm-router", "vllm-router"), *_router_options(site)])


def _router_options(site: Site) -> list[str]:
    """Return the options that SMG and vllm-router share: they have one ancestor."""
    place = ["--host", "127.0.0.1", "--port", str(site.port), "--prometheus-port", str(free_port())]
    return [*place, "--worker-urls", f"http://127.0.0.1:{site.engine_port}"]


def _litellm(site: Site) -> Launch:
    key = f"sk-{secrets.token_hex(16)}"
    engine = f"http://127.0.0.1:{site.engine_port}/v1"
    parameters = {"model": f"openai/{MODEL}", "api_base": engine, "api_key": "none"}
    document = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "litellm_settings": {"callbacks": ["prometheus"]},
        "general_settings": {"master_key": key},
    }
    config = site.folder / "config.yaml"
    config.write_text(yaml.safe_dump(document))
    command = [peers.program("litellm", "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_TELEMETRY": "False",
    }
    return Launch([*command, "--port", str(site.port)], environment, key=key)


def _nginx_title() -> str:
    try:
        told = subprocess.run([program("nginx", "nginx"), "-v"], capture_output=True, text=True, check=True)
    except BenchError:
        return "nginx proxy_pass"
    return f"nginx {told.stderr.rpartition('/')[2].strip()} proxy_pass"


OURS = "gateway"
CONTENDERS = {
    one.name: one
    for one in (
        Contender(OURS, lambda: "gpt-oss-cluster gateway", _ours),
        Contender("relay", lambda: "bare ASGI relay (floor)", _relay),
        Contender("nginx", _nginx_title, _nginx),
        Contender("vllm-router", lambda: peers.title("vllm-router"), _vllm_router, ready_s=60),
        Contender("smg", lambda: peers.title("smg"), _smg, ready_s=60),
        Contender("litellm", lambda: peers.title("litellm"), _litellm, ready_s=120),
    )
}
