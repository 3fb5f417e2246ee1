"""Real Ray Serve with two simulated replicas: what becomes of a request on its way."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from cluster.core import hint
from cluster.core.effort import Effort
from cluster.core.engine import LOAD_HEADER, parse_load
from tests.serving.real_serve import POOL, Serve, started

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start Ray Serve with one pool of two simulated replicas; end all that it started."""
    with started(tmp_path_factory.mktemp("serve"), replicas={"min": 2, "max": 2}) as serve:
        until_routed(serve)
        yield serve


def until_routed(serve: Serve) -> None:
    """Wait until HAProxy asks the routers: for two seconds after a start it does without them."""
    name = serve.chat()
    told = hint.render(hint.RouteHint("low", 50, 20, attempt=2, avoid=name))
    deadline = time.monotonic() + 30
    while any(serve.chat(told) == name for _ in range(8)):
        assert time.monotonic() < deadline, "HAProxy does not ask the routers"


def test_two_request_routers_stand_beside_haproxy(serve: Serve) -> None:
    """One takes over while the other is replaced; Ray ignores ``num_replicas`` for them."""
    assert sum("LLMRouter" in line for line in serve.command_lines()) == 2


def test_the_declared_number_of_replicas_runs(serve: Serve) -> None:
    """The override in the declarative config wins over the one replica in the code."""
    assert serve.replicas() == 2


def test_the_hint_reaches_the_router(serve: Serve) -> None:
    """Every request that avoids a replica goes to the other one, whichever router decides."""
    names = {serve.chat() for _ in range(12)}
    assert len(names) == 2
    for avoided in names:
        told = hint.render(hint.RouteHint("low", 50, 20, attempt=2, avoid=avoided))
        assert {serve.chat(told) for _ in range(8)} == names - {avoided}


def test_requests_spread_over_idle_replicas(serve: Serve) -> None:
    """Neither replica takes all of a series without hints."""
    counts = Counter(serve.chat() for _ in range(20))
    assert min(counts.values()) >= 5


def test_reports_draw_the_lanes(serve: Serve) -> None:
    """Low and high effort part, whichever of the two routers decides: both read the same reports."""

    def ask(effort: Effort, tokens: int) -> str:
        return serve.chat(hint.render(hint.RouteHint(effort, tokens, 20)), effort=effort)

    for _ in range(6):
        ask("low", 400)
        ask("high", 4000)  # outweighs what other tests have sent
    time.sleep(2)  # until the replicas have reported what came
    low = {ask("low", 400) for _ in range(5)}
    high = {ask("high", 4000) for _ in range(5)}
    assert (len(low), len(high)) == (1, 1)
    assert low != high


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/responses", "/metrics", "/"])
def test_nothing_answers_without_the_key(serve: Serve, path: str) -> None:
    """Through HAProxy as on the replica's own port."""
    body: dict[str, str] | None = None if path in ("/v1/models", "/metrics", "/") else {}
    assert serve.ask(f"/{POOL}{path}", body, authorization="Bearer wrong").status == 401


def test_answers_name_replica_and_load(serve: Serve) -> None:
    """The gateway reads both."""
    answer = serve.ask(f"/{POOL}/v1/models")
    load = parse_load(answer.headers[LOAD_HEADER])
    assert answer.status == 200
    assert load is not None
    assert load.slots == 16
