"""The two addresses: what is on the admin one, and that no client's trick finds it on the other."""

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import product

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cluster.gateway.admission import Gate
from cluster.gateway.health import build_admin
from tests.gateway.conftest import KEY, Keys, World, serving
from tests.gateway.raw import Answer, connect

ADMIN_PATHS = [b"/metrics", b"/livez", b"/readyz"]
TRICKS = [
    b"%b", b"/%b", b"%b/", b"/.%b", b"/v1/..%b", b"/v1/models/..%b", b"/v1/models/%%2e%%2e%b", b"%b;x",
    b"%b?x", b"%b%%00", b"/v1%b", b"/v1/chat/completions/..%b", b"/\\..%b", b"//a:8081%b",
    b"http://a:8081%b", b"%b#x",
]  # fmt: skip


class Where(Collector):
    """Tells in which thread it was asked."""

    thread: int | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Note the thread."""
        self.thread = threading.get_ident()
        yield GaugeMetricFamily("gptoss_probe", "A probe", value=1)


@dataclass
class Admin:
    """A running admin address."""

    url: str
    keys: Keys
    gate: Gate
    collector: Where

    async def get(self, target: bytes, method: bytes = b"GET") -> Answer:
        """Return the answer of one request."""
        return await ask(self.url, method + b" " + target)


async def ask(url: str, line: bytes) -> Answer:
    """Send a request with this method and target, as they are."""
    client = await connect(url)
    await client.send(line + b" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % KEY.encode())
    answer = await client.answer(method=line.split()[0].decode())
    await client.close()
    return answer


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    """Return an admin address."""
    registry, keys, gate, collector = CollectorRegistry(), Keys(), Gate(), Where()
    registry.register(collector)
    async with serving(build_admin(registry, keys, gate)) as url:
        yield Admin(url, keys, gate, collector)


async def test_metrics_are_prometheus_text(admin: Admin) -> None:
    """They are made in another thread than the streams'."""
    answer = await admin.get(b"/metrics")
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert b"\ngptoss_probe 1.0\n" in answer.body
    assert admin.collector.thread not in (None, threading.get_ident())


async def test_ready_means_loaded_and_not_draining(admin: Admin) -> None:
    """Whether an engine is there is not asked: there is none here. Alive is who answers."""
    assert (await admin.get(b"/readyz")).status == 200
    admin.keys.ready = False
    answer = await admin.get(b"/readyz")
    assert (answer.status, answer.body) == (503, b"keys are not loaded\n")
    admin.keys.ready = True
    admin.gate.drain()
    answer = await admin.get(b"/readyz")
    assert (answer.status, answer.body) == (503, b"draining\n")
    assert (await admin.get(b"/livez")).status == 200


async def test_nothing_else_is_on_the_admin_address(admin: Admin) -> None:
    """Paths are taken as they are written; the API is not there."""
    for target in (b"/", b"/metrics/", b"/METRICS", b"/v1/models", b"/v1/chat/completions"):
        assert (await admin.get(target)).status == 404


async def test_the_admin_address_is_only_read(admin: Admin) -> None:
    """GET and HEAD work, a query changes nothing, and every other method is 405."""
    for target in ADMIN_PATHS:
        assert (await admin.get(target + b"?name=x")).status == 200
        assert (await admin.get(target, b"HEAD")).status == 200
        for method in (b"POST", b"PUT", b"DELETE"):
            assert (await admin.get(target, method)).status == 405


async def test_no_trick_finds_it_on_the_api_address(world: World) -> None:
    """Whatever a path would mean to somebody else, on the API address it is unknown or malformed."""
    for trick, path, method in product(TRICKS, ADMIN_PATHS, (b"GET", b"POST")):
        answer = await ask(world.url, method + b" " + trick % path)
        assert answer.status in (400, 404, 405)
        assert answer.error["type"] == "invalid_request_error"
