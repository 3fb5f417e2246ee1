"""Both engines, reached the same way: over HTTP, with the engine key."""

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from cluster.serving.sim import create_app
from cluster.serving.sim.asgi import listen
from cluster.settings import SimulatedEngine
from tests.conftest import Engine
from tests.contract.shapes import Answer

QUICK = SimulatedEngine(ttft_ms=1, inter_token_ms=0.1)


@dataclass(frozen=True, slots=True)
class Call:
    """One request; ``body`` is bytes, or a value for JSON, or None for no body."""

    method: str
    path: str
    """Below ``/v1``."""
    body: Any = None
    content_type: str = "application/json"
    key: str | None = None
    """None: the engine's own key."""


def ask(engine: Engine, call: Call) -> Answer:
    """Send ``call`` to ``engine`` and return the whole answer; a stream is read to its end."""
    url = urlsplit(f"{engine.base_url}{call.path}")
    raw = call.body if isinstance(call.body, bytes | None) else json.dumps(call.body).encode()
    headers = {
        "authorization": f"Bearer {engine.api_key if call.key is None else call.key}",
        "content-type": call.content_type,
    }
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=120)
    try:
        connection.request(call.method, url.path, raw, headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


@pytest.fixture(scope="session")
def context_tokens(real_engine: Engine) -> int:
    """Return the real engine's context, so that both overflow at the same length."""
    models = json.loads(ask(real_engine, Call("GET", "/models")).body)
    return int(models["data"][0]["max_model_len"])


@pytest.fixture(scope="session")
def simulated_engine(real_engine: Engine, context_tokens: int) -> Iterator[Engine]:
    """Run the simulator as a server beside the real engine, with the same model, key and context."""
    app = create_app(
        QUICK,
        model=real_engine.model,
        replica="simulated",
        engine_key=real_engine.api_key,
        max_model_len=context_tokens,
    )
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    port = listener.getsockname()[1]
    yield Engine(f"http://127.0.0.1:{port}/v1", real_engine.api_key, real_engine.model)
    server.should_exit = True
    thread.join()
