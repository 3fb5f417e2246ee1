"""Settings of the gateway: its addresses, its patience with clients, its logs."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from cluster.core.addresses import parse_network
from cluster.core.admission import DEFAULT_BOUNDS, Bounds
from cluster.settings.fields import Count, HostPort, Seconds, Section


def _checked_network(text: str) -> str:
    parse_network(text)
    return text


ProxyNetwork = Annotated[str, AfterValidator(_checked_network)]
"""An IP address, or a network such as ``10.0.0.0/8``."""


class StreamSettings(Section):
    """How answers are held back, kept alive and drained."""

    commit_after_s: Seconds = 10
    """Seconds for which a failure before the first byte still gets its own HTTP status; after that the
    gateway commits to 200 and reports failures as SSE events."""
    keepalive_s: Seconds = 10
    """Seconds of silence after which a committed stream carries a comment, so that proxies keep it open."""
    drain_s: Seconds = 600
    """Seconds that running requests get to finish after SIGTERM."""


class HttpSettings(Section):
    """How long clients may take on a connection, on both addresses."""

    header_timeout_s: Seconds = 10
    """Seconds for the head of a request, from its first byte; also for the first byte of a new connection."""
    body_timeout_s: Seconds = 30
    """Seconds that a body may stand still, or lag behind ``min_body_bytes_per_s``."""
    min_body_bytes_per_s: Count = 1024
    """Slowest rate, in bytes per second, at which a body may arrive."""
    idle_timeout_s: Seconds = 75
    """Seconds that a connection may wait for its next request: longer than the 60 of common proxies, which
    then close first."""
    write_timeout_s: Seconds = 60
    """Seconds for which a client may take nothing of its answer, or be out of reach; then it has left."""


class AdmissionSettings(Section):
    """How much may wait in a gateway for each pool. How much a pool takes, its replicas tell."""

    max_waiting: Count = DEFAULT_BOUNDS.max_waiting
    """Requests that may wait; beyond it the tenant with the most waiting gives up its least valuable one."""
    max_waiting_bytes: Count = DEFAULT_BOUNDS.max_bytes
    """Bytes that these may hold in memory, about."""
    max_wait_s: Seconds = DEFAULT_BOUNDS.max_wait_s
    """Longest wait in seconds, also of a request whose deadline is further away."""

    @cached_property
    def bounds(self) -> Bounds:
        """The bounds of one waiting room."""
        return Bounds(self.max_waiting, self.max_waiting_bytes, self.max_wait_s)


class GatewaySettings(Section):
    """The public HTTP face."""

    listen: HostPort = "0.0.0.0:8080"
    """Address of the API."""
    admin_listen: HostPort = "0.0.0.0:8081"
    """Address of ``/metrics``, ``/livez`` and ``/readyz``; never expose it outside the cluster."""
    trusted_proxies: tuple[ProxyNetwork, ...] = ()
    """Addresses or networks of proxies whose ``X-Forwarded-For`` is believed; empty: nobody's. Behind a proxy
    that is not named here all clients have the proxy's address, in audit lines and where failures count."""
    max_body_bytes: Count = 4 * 1024 * 1024
    """Largest request body in bytes; a larger one is refused with 413 before it is read."""
    costs_file: Path | None = None
    """File of this gateway's own that keeps what answers were learned to cost; None: it starts anew from
    ``expected_output_tokens`` each time."""
    http: HttpSettings = HttpSettings()
    """How long clients may take on a connection, on both addresses."""
    admission: AdmissionSettings = AdmissionSettings()
    """How much may wait for the engines."""
    stream: StreamSettings = StreamSettings()
    """How answers are held back, kept alive and drained."""


class LoggingSettings(Section):
    """Logs: one JSON object a line on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level written; usage and audit lines are always written."""
    format: Literal["json", "text"] = "json"
    """``json`` for machines, ``text`` for a person at a terminal."""
