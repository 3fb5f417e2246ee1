"""Which routes a simulated replica has, who may use them, and what every answer carries."""

import pytest

from cluster.core.engine import LOAD_HEADER, REPLICA_HEADER, EngineLoad, parse_load
from tests.serving.sim.virtual import CHAT, MODEL, RESPONSES, call, chat_body, simulated


@pytest.mark.parametrize("path", [CHAT, RESPONSES, "/v1/models", "/health", "/metrics", "/invocations"])
@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "engine-key", "Bearer engine-key2"])
def test_every_route_demands_the_engine_key(path: str, authorization: str) -> None:
    """Without the engine key any route, known or not, is a 401 in vLLM's shape."""
    exchange = call(simulated(), path, {}, headers={"authorization": authorization})
    assert (exchange.status, exchange.json) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/v1/completions", "/invocations", "/v1/models/x", "/docs"]
)
def test_other_paths_are_not_found(path: str) -> None:
    """Only the allowed paths exist."""
    exchange = call(simulated(), path, method="GET")
    assert (exchange.status, exchange.json) == (404, {"detail": "Not Found"})


def test_a_wrong_method_is_refused() -> None:
    """A known path with another method is a 405."""
    exchange = call(simulated(), CHAT, method="GET")
    assert (exchange.status, exchange.json) == (405, {"detail": "Method Not Allowed"})


def test_health_is_an_empty_200() -> None:
    """Health has no body and no content type, as vLLM's."""
    exchange = call(simulated(), "/health", method="GET")
    assert (exchange.status, exchange.body) == (200, b"")
    assert "content-type" not in exchange.headers


def test_models_lists_the_one_model() -> None:
    """The list names the served model and its context."""
    (card,) = call(simulated(max_model_len=4096), "/v1/models", method="GET").json["data"]
    assert (card["id"], card["max_model_len"]) == (MODEL, 4096)


def test_every_answer_names_the_replica_and_its_load() -> None:
    """A running request counts itself; an idle replica says so even in an error."""
    app = simulated(slots=4)
    streamed = call(app, CHAT, chat_body(stream=True))
    refused = call(app, "/nowhere")
    assert streamed.headers[REPLICA_HEADER] == refused.headers[REPLICA_HEADER] == "replica-0"
    assert parse_load(refused.headers[LOAD_HEADER]) == EngineLoad(running=0, waiting=0, kv_use=0.0, slots=4)


def test_a_route_prefix_is_taken_off() -> None:
    """Under a Serve route prefix the paths stay the same."""
    app = simulated()

    async def prefixed(scope, receive, send):  # type: ignore[no-untyped-def]
        await app({**scope, "root_path": "/pool", "path": f"/pool{scope['path']}"}, receive, send)

    assert call(prefixed, "/v1/models", method="GET").status == 200
