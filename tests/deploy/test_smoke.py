"""What `helm test` asks of a gateway, and how it tells that there is no answer."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cluster.stores import admin
from deploy import smoke
from tests.stores.vaults import MemoryVault

PEPPER = b"p" * 32
GOOD = {
    "choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"completion_tokens": 7},
}


class FakeGateway(HTTPServer):
    """Answers with what it is told, in turn; the last answer stays."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, Any]] = [(200, GOOD)]
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        fake = self.server
        assert isinstance(fake, FakeGateway)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake.asked.append((self.headers["authorization"], body))
        status, answer = fake.answers.pop(0) if len(fake.answers) > 1 else fake.answers[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    """Start a gateway that answers as told; nothing waits between two questions."""
    monkeypatch.setattr(smoke, "PAUSE_S", 0.0)
    fake = FakeGateway()
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    fake.shutdown()
    thread.join()
    fake.server_close()


def soon() -> float:
    """Return a time that leaves enough of it."""
    return time.monotonic() + 20


def failure(code: str) -> dict[str, Any]:
    """Return an error body."""
    return {"error": {"message": code}}


def test_a_real_answer_is_one(gateway: FakeGateway) -> None:
    """It asks the model by name, with the key, at low effort, and tells what it cost."""
    answer = smoke.ask(gateway.url, "gos_live_x", "gpt-oss-20b", until=soon())
    assert (answer.text, answer.output_tokens) == ("Hello.", 7)
    [(authorization, body)] = gateway.asked
    assert authorization == "Bearer gos_live_x"
    assert (body["model"], body["reasoning_effort"]) == ("gpt-oss-20b", "low")


def test_it_waits_for_key_and_models(gateway: FakeGateway) -> None:
    """A new key takes a moment to reach every gateway, and models take minutes to load."""
    gateway.answers = [(401, failure("no key")), (503, failure("loading")), (200, GOOD)]
    assert smoke.ask(gateway.url, "k", "m", until=soon()).output_tokens == 7


def test_a_cut_answer_counts(gateway: FakeGateway) -> None:
    """A chain of thought that reaches the limit is an answer of a working model, though it has no text."""
    cut = {"choices": [{"message": {"content": None}, "finish_reason": "length"}], "usage": GOOD["usage"]}
    gateway.answers = [(200, cut)]
    assert smoke.ask(gateway.url, "k", "m", until=soon()).text == ""


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        pytest.param(404, failure("no such model"), "m: 404: no such model", id="refused"),
        pytest.param(200, {"choices": []}, "m: 200, but no chat completion", id="no choice"),
        pytest.param(
            200,
            {**GOOD, "choices": [{"message": {"content": ""}, "finish_reason": "stop"}]},
            r"an empty answer \(7 tokens, finish_reason stop\)",
            id="empty",
        ),
        pytest.param(200, b"<html>", "m: 200, but no chat completion", id="not json"),
    ],
)
def test_anything_else_fails_at_once(gateway: FakeGateway, status: int, body: Any, told: str) -> None:
    """The message has what came instead."""
    gateway.answers = [(status, body)]
    with pytest.raises(smoke.SmokeError, match=told):
        smoke.ask(gateway.url, "k", "m", until=soon())
    assert len(gateway.asked) == 1


def test_patience_ends(gateway: FakeGateway) -> None:
    """With the last error, and where to look."""
    gateway.answers = [(503, failure("no replica is ready"))]
    with pytest.raises(smoke.SmokeError, match=r"m: 503: no replica is ready; see `gpt-oss-cluster status`"):
        smoke.ask(gateway.url, "k", "m", until=time.monotonic())


def test_nobody_there_is_told() -> None:
    """The address is in the message."""
    with pytest.raises(smoke.SmokeError, match=r"no answer: http://127\.0\.0\.1:1 cannot be reached"):
        smoke.ask("http://127.0.0.1:1", "k", "m", until=time.monotonic())


@pytest.mark.parametrize("fails", [False, True])
def test_the_key_is_gone_afterwards(fails: bool) -> None:
    """Key and tenant, also where the test fails; those of others stay."""
    vault, now = MemoryVault(), datetime(2026, 1, 1, tzinfo=UTC)
    admin.set_tenant(vault, "others", now=now)
    try:
        with smoke.short_lived_key(vault, PEPPER, lambda: now) as key:
            assert key.startswith("gos_live_")
            [record] = admin.list_keys(vault)
            assert record.expires_at is not None
            if fails:
                raise smoke.SmokeError("no answer")
    except smoke.SmokeError:
        assert fails
    assert admin.list_keys(vault) == []
    assert [tenant.name for tenant in admin.list_tenants(vault)] == ["others"]
