"""A whole gateway in the test's own event loop, between a real client and a scripted upstream."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.core.cost import CostModel
from cluster.core.limits import Ask, Refusal, Reservation
from cluster.gateway.admission import Admission, Gate
from cluster.gateway.app import build, build_refusing
from cluster.gateway.auth import Authenticator
from cluster.gateway.flow import Director
from cluster.gateway.http_errors import RequestFailed
from cluster.gateway.http_protocol import Refusing
from cluster.gateway.http_server import HttpServer
from cluster.gateway.intake import address_reader
from cluster.gateway.logs import LineWriter, Log
from cluster.gateway.models import Models
from cluster.gateway.plan import cost_model
from cluster.gateway.ports import Caller, LimitStore
from cluster.gateway.relay import RelaySettings
from cluster.gateway.retries import Retries
from cluster.gateway.server import listen
from cluster.gateway.telemetry import Telemetry
from cluster.gateway.upstream import Engines
from cluster.serving.sim import create_app
from cluster.settings import HttpSettings, LoggingSettings, RateLimits, Settings, SimulatedEngine, parse
from cluster.stores.memory_limits import MemoryLimits
from tests.gateway.upstream import Upstream

KEY, SEEING, NARROW = "key-plain", "key-seeing", "key-narrow"
"""Keys of a caller that may not see the chain of thought, of one that may, and of one with narrow scopes."""


def settings_document(url: str = "http://127.0.0.1:1", **changes: Any) -> dict[str, Any]:
    """Return a settings document with two models and an alias; ``changes`` replace whole sections."""
    models = {
        "gpt-oss-120b": {
            "pools": ["big", "big-b"],
            "source": "/m",
            "efforts": {
                "low": {"max_output_tokens": 100, "expected_output_tokens": 40, "slo": {"wait_s": 1}},
                "medium": {"max_output_tokens": 200, "expected_output_tokens": 80, "slo": {"wait_s": 5}},
                "high": {
                    "max_output_tokens": 300,
                    "max_reasoning_tokens": 64,
                    "expected_output_tokens": 120,
                    "slo": {"wait_s": 30},
                },
            },
        },
        "gpt-oss-20b": {"pools": ["small"], "source": "/m"},
    }
    pools = {name: {"model": "gpt-oss-120b", "profile": "x"} for name in ("big", "big-b")}
    return {
        "version": 1,
        "serving": {
            "url": url,
            "engine_key_file": "/k",
            "pools": {**pools, "small": {"model": "gpt-oss-20b", "profile": "x"}},
        },
        "models": models,
        "aliases": {"gpt-oss": {"low": "gpt-oss-20b", "medium": "gpt-oss-120b", "high": "gpt-oss-120b"}},
        "auth": {"keys": {"path": "/keys"}, "pepper_file": "/p"},
        **changes,
    }


def settings(url: str = "http://127.0.0.1:1", **changes: Any) -> Settings:
    """Return the parsed document."""
    return parse(settings_document(url, **changes), origin="test")


def caller(**changes: Any) -> Caller:
    """Return a caller that may do everything but see the chain of thought."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "key_id": "key00001",
        "models": None,
        "max_effort": "high",
        "see_reasoning": False,
        "limits": (RateLimits(requests_per_min=600, tokens_per_min=100_000, concurrent=64),),
    }
    return Caller(**{**fields, **changes})


class Keys:
    """A key store of three keys."""

    def __init__(self) -> None:
        self.callers = {
            KEY: caller(),
            SEEING: caller(tenant="lab", see_reasoning=True),
            NARROW: caller(
                models=frozenset({"gpt-oss-20b"}), max_effort="low", endpoints=frozenset({"chat"})
            ),
        }
        self.ready = True

    def find(self, token: str) -> Caller | None:
        """Return the caller of ``token``."""
        return self.callers.get(token)

    def can_judge(self, _token: str) -> bool:
        """Whether keys are loaded."""
        return self.ready


class Ledger:
    """A limit store that remembers each settlement."""

    def __init__(self) -> None:
        self.store: LimitStore = MemoryLimits(time.time, max_request_s=60)
        self.reserved: list[Ask] = []
        self.settled: list[int] = []
        self.refusals: list[Refusal] = []
        """Given to the next requests, one each."""

    async def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Reserve, or give the refusal that the test wants."""
        self.reserved.append(ask)
        return self.refusals.pop() if self.refusals else await self.store.reserve(ask)

    def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Note the tokens, and settle."""
        self.settled.append(tokens)
        self.store.settle(reservation, tokens=tokens)


@dataclass
class World:
    """A running gateway and what stands around it."""

    upstream: Upstream
    settings: Settings
    keys: Keys
    ledger: Ledger
    costs: CostModel
    gate: Gate
    admission: Admission
    registry: CollectorRegistry
    lines: io.BytesIO
    writer: LineWriter
    url: str
    http: aiohttp.ClientSession
    ended: asyncio.Queue[dict[str, Any]]
    clients: list[AsyncOpenAI] = field(default_factory=list)

    def openai(self, key: str = KEY, **options: Any) -> AsyncOpenAI:
        """Return the official client; it does not retry unless told to."""
        client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, **options})
        self.clients.append(client)
        return client

    @asynccontextmanager
    async def post(
        self, body: Any = None, *, path: str = "/v1/chat/completions", key: str = KEY, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give the raw response."""
        headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
        payload = chat_body() if body is None else body
        async with self.http.post(self.url + path, json=payload, headers=headers, **more) as response:
            yield response

    async def usage(self) -> dict[str, Any]:
        """Return the usage line of the request that has just ended, or ends now."""
        return await asyncio.wait_for(self.ended.get(), 10)

    def metric(self, sample: str) -> float:
        """Return the value of one sample, by its line's beginning; 0 when there is none."""
        for line in generate_latest(self.registry).decode().splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def log(self) -> str:
        """Return everything logged so far."""
        self.writer.close()
        return self.lines.getvalue().decode()


class _Log(Log):
    """A log that also hands usage lines to the test."""

    def __init__(self, writer: LineWriter, ended: asyncio.Queue[dict[str, Any]]) -> None:
        super().__init__(writer, LoggingSettings())
        self._ended = ended

    def record(self, kind: str, fields: dict[str, Any]) -> None:
        """Write, and hand over."""
        super().record(kind, fields)
        if kind == "usage":
            self._ended.put_nowait(json.loads(json.dumps(fields)))


def chat_body(**changes: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Say hello"}], **changes}


def unrefused(failure: RequestFailed) -> Any:
    """Fail: the gateway's requests to an engine are never refused."""
    raise failure


@asynccontextmanager
async def serving(
    app: Any, http: HttpSettings | None = None, refusing: Refusing = unrefused
) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port of loopback."""
    bound = listen("127.0.0.1:0", "test")
    server = HttpServer(app, http or HttpSettings(), refusing)
    task = asyncio.create_task(server.serve([bound]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    await task


Worlds = Callable[..., Any]


@pytest.fixture
async def worlds() -> AsyncIterator[Worlds]:
    """Return a function that starts a gateway; its keywords replace sections of the settings document."""
    made: list[Any] = []

    async def make(**changes: Any) -> World:
        context = running(**changes)
        made.append(context)
        world: World = await context.__aenter__()
        return world

    yield make
    for context in reversed(made):
        await context.__aexit__(None, None, None)


@pytest.fixture
async def world(worlds: Worlds) -> World:
    """Return a gateway with the plain settings."""
    made: World = await worlds()
    return made


FAST = SimulatedEngine(ttft_ms=0, inter_token_ms=0, inter_token_per_request_ms=0)


@pytest.fixture
async def simulated(worlds: Worlds) -> AsyncIterator[World]:
    """Return a gateway in front of a simulated engine, which obeys fault words and takes no time."""
    app = create_app(FAST, model="gpt-oss-120b", replica="sim-1", engine_key="engine-key", faults=True)
    async with serving(behind_prefix(app)) as url:
        document = {"url": url, "engine_key_file": "/k"}
        pools = {name: {"model": "gpt-oss-120b", "profile": "x"} for name in ("big", "big-b")}
        pools["small"] = {"model": "gpt-oss-20b", "profile": "x"}
        made: World = await worlds(serving={**document, "pools": pools})
        yield made


def behind_prefix(app: ASGIApp) -> ASGIApp:
    """Serve ``app`` below a pool's route prefix, as Serve does."""

    async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
        pool = scope["path"].split("/")[1]
        await app({**scope, "root_path": f"/{pool}"}, receive, send)

    return prefixed


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[World]:
    """Run a gateway; ``changes`` replace sections of the settings document."""
    upstream = Upstream()
    document = settings(await upstream.start(), **changes)
    keys, ledger, gate, registry, lines = Keys(), Ledger(), Gate(), CollectorRegistry(), io.BytesIO()
    costs = cost_model(document)
    ended: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    writer = LineWriter(lines)
    engines = Engines(document.serving.url, "engine-key")
    address_of = address_reader(document.gateway.trusted_proxies)
    log = _Log(writer, ended)
    admission = Admission(document.serving.pools, document.gateway.admission.bounds, time.monotonic)
    telemetry = Telemetry(registry, log, now=time.monotonic, wall=time.time, address_of=address_of)
    telemetry.watch_objectives(document.models)
    for pool, waiting in admission.rooms.items():
        telemetry.watch_pool(pool, slots=waiting.slots, waiting=waiting.waiting)
    director = Director(
        settings=document,
        authenticate=Authenticator(keys, address_of, now=float),  # time stands still
        limits=ledger,
        costs=costs,
        gate=gate,
        relays=RelaySettings(
            engines, b"p" * 32, document.gateway.stream, time.monotonic, Retries(b"p" * 32), admission
        ),
        telemetry=telemetry,
    )
    app = build(director, Models(document), now=time.monotonic)
    refusing = build_refusing(telemetry, now=time.monotonic)
    async with serving(app, document.gateway.http, refusing) as url, aiohttp.ClientSession() as http:
        made = World(
            upstream,
            document,
            keys,
            ledger,
            costs,
            gate,
            admission,
            registry,
            lines,
            writer,
            url,
            http,
            ended,
        )
        yield made
        for client in made.clients:
            await client.close()
    await engines.close()
    await upstream.stop()
    writer.close()
