"""The simulated engine's ASGI app: vLLM's routes, behind the checks that our replicas add.

The same app serves as a plain server (`run`) and inside a Serve replica.
"""

import hmac
from typing import Any

import orjson
import uvicorn

from cluster.core import hint
from cluster.core.engine import (
    LOAD_HEADER,
    PRIORITY_HEADER,
    REPLICA_HEADER,
    REQUEST_ID_HEADER,
    EngineLoad,
    render_load,
)
from cluster.core.request import Endpoint
from cluster.serving import report
from cluster.serving.sim import asgi, chat, faults, responses
from cluster.serving.sim.clock import Clock, SystemClock
from cluster.serving.sim.engine import Broken, Engine, Finished, Run
from cluster.serving.sim.errors import EngineError, internal
from cluster.serving.sim.job import Job
from cluster.serving.sim.request import Context, parse
from cluster.serving.sim.text import generate
from cluster.serving.sim.wire import Envelope, Stream, Tally, fresh
from cluster.settings import SimulatedEngine

MAX_MODEL_LEN = 131_072
"""gpt-oss's context in tokens: ``max_position_embeddings`` of its configuration."""

_ENDPOINTS: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}
_METHODS = {**dict.fromkeys(_ENDPOINTS, "POST"), "/v1/models": "GET", "/health": "GET"}


class SimulatedApp:
    """One simulated replica as an ASGI app; see `create_app`."""

    def __init__(
        self,
        settings: SimulatedEngine,
        *,
        model: str,
        replica: str,
        engine_key: str | None,
        clock: Clock,
        faults: bool,
        max_model_len: int,
    ) -> None:
        self._settings, self._model, self._replica = settings, model, replica
        self._engine_key, self._clock, self._faults = engine_key, clock, faults
        self._max_model_len = max_model_len
        self._engine = Engine(settings, clock)
        self._created = int(clock.epoch())

    @property
    def load(self) -> EngineLoad:
        """The replica's load now."""
        return self._engine.load

    @property
    def expected_tokens(self) -> int:
        """Output tokens that the requests here, running and waiting, are expected to need still."""
        return self._engine.expected_tokens

    @property
    def routing_stats(self) -> dict[str, Any]:
        """What a replica tells the routers."""
        engine = self._engine
        return report.write(
            self._clock.epoch(), engine.load, engine.expected_tokens, engine.efforts, engine.demand
        )

    @property
    def scaling_stats(self) -> dict[str, float]:
        """What a replica tells the autoscaler."""
        return self._engine.scaling_stats

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await asgi.lifespan(receive, send)
        elif scope["type"] == "http":
            await self._route(scope, receive, asgi.Reply(send, self._replica_headers))
        else:
            raise ValueError(f"the simulated engine serves HTTP only, not {scope['type']!r}")

    async def _route(self, scope: asgi.Scope, receive: asgi.Receive, reply: asgi.Reply) -> None:
        headers = asgi.headers_of(scope)
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if not self._key_fits(headers.get("authorization", "")):
            await reply.json(401, {"error": "Unauthorized"})
        elif path not in _METHODS:
            await reply.json(404, {"detail": "Not Found"})
        elif scope["method"] != _METHODS[path]:
            await reply.json(405, {"detail": "Method Not Allowed"})
        elif path == "/health":
            await reply.whole(200, b"", None)
        elif path == "/v1/models":
            await reply.json(200, _models(self._model, self._created, self._max_model_len))
        else:
            await self._complete(_ENDPOINTS[path], headers, receive, reply)

    def _key_fits(self, authorization: str) -> bool:
        if self._engine_key is None:
            return True
        return hmac.compare_digest(authorization.encode(), f"Bearer {self._engine_key}".encode())

    def _replica_headers(self) -> asgi.Headers:
        load = render_load(self._engine.load)
        return [(REPLICA_HEADER.encode(), self._replica.encode()), (LOAD_HEADER.encode(), load.encode())]

    async def _complete(
        self, endpoint: Endpoint, headers: dict[str, str], receive: asgi.Receive, reply: asgi.Reply
    ) -> None:
        raw = await asgi.read_body(receive)
        if raw is None:
            return
        try:
            run = self._read(endpoint, headers, raw)
            if run.has("reset"):
                asgi.abort(receive)
                return
        except EngineError as error:
            await reply.json(error.status, error.body())
            return
        await asgi.unless_disconnected(receive, self._serve(run, reply))

    def _read(self, endpoint: Endpoint, headers: dict[str, str], raw: bytes) -> Run:
        body = asgi.decode(raw, headers.get("content-type", ""))
        job = parse(endpoint, body, Context(self._model, self._max_model_len, headers.get(PRIORITY_HEADER)))
        request_id = headers.get(REQUEST_ID_HEADER, "")
        order = faults.ordered(job.last_user_text, request_id) if self._faults else None
        generations = tuple(
            faults.altered(generate(job, self._settings, model=self._model, choice=choice), order)
            for choice in range(job.choices)
        )
        own_id = f"chatcmpl-{request_id or fresh('')}" if endpoint == "chat" else fresh("resp_")
        envelope = Envelope(own_id, self._model, int(self._clock.epoch()))
        tally = Tally(job.prompt_tokens)
        told = hint.parse(headers.get(hint.HEADER))
        make = chat.ChatStream if endpoint == "chat" else responses.ResponsesStream
        return Run(
            job=job,
            generations=generations,
            tally=tally,
            envelope=envelope,
            stream=make(job, generations, tally, envelope) if job.stream else None,
            order=order,
            expected_tokens=told.expected_output_tokens if told else self._usual_tokens(job),
            queued_tokens=told.queued_tokens if told else 0,
        )

    def _usual_tokens(self, job: Job) -> int:
        return self._settings.reasoning_tokens[job.effort] + self._settings.answer_tokens

    async def _serve(self, run: Run, reply: asgi.Reply) -> None:
        try:
            if run.has("die"):
                raise internal(faults.DEAD_MESSAGE)
            self._engine.check_room()
            if run.stream is None:
                await self._whole(run, reply)
            else:
                await self._stream(run, run.stream, reply)
        except EngineError as error:
            await reply.json(error.status, error.body())
        except Broken:
            # An answer left unfinished makes the server end the connection, as a dead engine's does.
            return

    async def _whole(self, run: Run, reply: asgi.Reply) -> None:
        render = chat.answer if run.job.endpoint == "chat" else responses.answer
        try:
            await self._engine.run(run, reply.part)
        except Finished:
            body = orjson.dumps(render(run.job, run.generations, run.tally, run.envelope))
            await reply.whole(200, body[: len(body) // 2], b"application/json")
            return
        if run.has("garbage"):
            await reply.whole(200, faults.GARBAGE_BODY, b"application/json")
            return
        await reply.json(200, render(run.job, run.generations, run.tally, run.envelope))

    async def _stream(self, run: Run, stream: Stream, reply: asgi.Reply) -> None:
        if not run.has("hang"):
            await reply.start_stream()
            await reply.part(stream.opened())
        try:
            await self._engine.run(run, reply.part)
        except EngineError as error:
            await reply.part(stream.failed(error))
            if run.job.endpoint == "responses":
                raise Broken from error
            await reply.end()
            return
        except Finished:
            await reply.end()
            return
        await reply.part(stream.ended())
        await reply.end()


def _models(model: str, created: int, max_model_len: int) -> dict[str, Any]:
    permission = {
        "id": fresh("modelperm-"),
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    card = {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": model,
        "parent": None,
        "max_model_len": max_model_len,
        "permission": [permission],
    }
    return {"object": "list", "data": [card]}


def create_app(
    settings: SimulatedEngine,
    *,
    model: str,
    replica: str,
    engine_key: str | None,
    clock: Clock | None = None,
    faults: bool = False,
    max_model_len: int = MAX_MODEL_LEN,
) -> SimulatedApp:
    """Return a simulated replica.

    ``model`` is the one name it serves, ``replica`` the value of ``x-engine-replica``. With ``engine_key``
    every route demands ``Authorization: Bearer <key>``; None asks for none. ``faults`` lets the words of
    `cluster.serving.sim.faults` strike. ``max_model_len`` is the context in tokens, prompt and output.
    """
    return SimulatedApp(
        settings,
        model=model,
        replica=replica,
        engine_key=engine_key,
        clock=clock or SystemClock(),
        faults=faults,
        max_model_len=max_model_len,
    )


def run(app: SimulatedApp, *, host: str = "127.0.0.1", port: int = 8090) -> None:
    """Serve ``app`` until the process is told to stop. Raises `AddressInUse`."""
    listener = asgi.listen(host, port)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
