"""The simulated engine's ASGI app: vLLM's routes, behind the checks that our replicas add.

The same app serves as a plain server (`run`) and inside a Serve replica.
"""

import functools
import hmac
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import anyio
import uvicorn

from cluster.core import hint
from cluster.core.engine import (
    LOAD_HEADER,
    PRIORITY_HEADER,
    REPLICA_HEADER,
    REQUEST_ID_HEADER,
    USAGE_COMMENT_EVERY_S,
    EngineLoad,
    render_load,
    render_usage,
)
from cluster.core.request import Endpoint
from cluster.serving.sim import chat, faults, responses
from cluster.serving.sim.clock import Clock, SystemClock
from cluster.serving.sim.errors import EngineError, internal, invalid_json, missing_body, wrong_media_type
from cluster.serving.sim.request import Context, Job, parse
from cluster.serving.sim.scheduler import Scheduler
from cluster.serving.sim.text import Generation, generate
from cluster.serving.sim.wire import Stream, Tally, fresh
from cluster.settings import SimulatedEngine

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_MODEL_LEN = 131_072
"""gpt-oss's context in tokens (its config's ``max_position_embeddings``)."""

_ENDPOINTS: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}
_ROUTES = {"/v1/chat/completions": "POST", "/v1/responses": "POST", "/v1/models": "GET", "/health": "GET"}


class _Broken(Exception):  # noqa: N818  not an error to report: the connection just ends
    """The answer ends here, as if the engine had died."""


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
        self._scheduler = Scheduler(slots=settings.slots, max_waiting=settings.max_waiting)
        self._created = int(clock.epoch())
        self._expected_tokens = 0

    @property
    def load(self) -> EngineLoad:
        """The replica's load now; the simulated KV cache fills with the slots."""
        running, slots = self._scheduler.running, self._scheduler.slots
        return EngineLoad(running, self._scheduler.waiting, running / slots, slots)

    @property
    def expected_tokens(self) -> int:
        """Output tokens that running and waiting requests were expected to still need."""
        return self._expected_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise ValueError(f"the simulated engine serves HTTP only, not {scope['type']!r}")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        reply = _Reply(send, self._replica_headers)
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if not self._key_fits(headers.get("authorization", "")):
            await reply.json(401, {"error": "Unauthorized"})
        elif path not in _ROUTES:
            await reply.json(404, {"detail": "Not Found"})
        elif scope["method"] != _ROUTES[path]:
            await reply.json(405, {"detail": "Method Not Allowed"})
        elif path == "/health":
            await reply.whole(200, b"", None)
        elif path == "/v1/models":
            await reply.json(200, self._models())
        else:
            await self._complete(_ENDPOINTS[path], headers, receive, reply)

    def _key_fits(self, authorization: str) -> bool:
        if self._engine_key is None:
            return True
        return hmac.compare_digest(authorization.encode(), f"Bearer {self._engine_key}".encode())

    def _replica_headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (REPLICA_HEADER.encode(), self._replica.encode()),
            (LOAD_HEADER.encode(), render_load(self.load).encode()),
        ]

    def _models(self) -> dict[str, Any]:
        permission = {
            "id": fresh("modelperm-"),
            "object": "model_permission",
            "created": self._created,
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
            "id": self._model,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": self._model,
            "parent": None,
            "max_model_len": self._max_model_len,
            "permission": [permission],
        }
        return {"object": "list", "data": [card]}

    async def _complete(
        self, endpoint: Endpoint, headers: dict[str, str], receive: Receive, reply: "_Reply"
    ) -> None:
        raw = await _read_body(receive)
        if raw is None:
            return
        try:
            body = _decode(raw, headers.get("content-type", ""))
            job = parse(
                endpoint, body, Context(self._model, self._max_model_len, headers.get(PRIORITY_HEADER))
            )
        except EngineError as error:
            await reply.json(error.status, error.body())
            return
        await _unless_disconnected(receive, self._serve(job, headers, receive, reply))

    async def _serve(self, job: Job, headers: dict[str, str], receive: Receive, reply: "_Reply") -> None:
        fault = self._fault(job, headers.get(REQUEST_ID_HEADER, ""))
        expected = self._expected(job, headers.get(hint.HEADER))
        self._expected_tokens += expected
        try:
            if fault == "die":
                raise internal("EngineCore encountered an issue. See stack trace (above) for the root cause.")
            if fault == "reset":
                _abort(receive)
                return
            await self._answer(job, fault, headers.get(REQUEST_ID_HEADER), reply)
        except EngineError as error:
            await reply.json(error.status, error.body())
        except _Broken:
            # Returning with the body unfinished makes the server end the connection, as a dead engine's does.
            return
        finally:
            self._expected_tokens -= expected

    def _fault(self, job: Job, request_id: str) -> faults.Fault | None:
        return faults.ordered(job.last_user_text, request_id) if self._faults else None

    def _expected(self, job: Job, route_hint: str | None) -> int:
        told = hint.parse(route_hint)
        if told is not None:
            return told.expected_output_tokens
        return self._settings.reasoning_tokens[job.effort] + self._settings.answer_tokens

    async def _answer(
        self, job: Job, fault: faults.Fault | None, request_id: str | None, reply: "_Reply"
    ) -> None:
        plain = [
            generate(job, self._settings, model=self._model, choice=index) for index in range(job.choices)
        ]
        generations = [faults.altered(generation, fault) for generation in plain]
        tally = Tally(job.prompt_tokens)
        kind = chat if job.endpoint == "chat" else responses
        about = {
            "request_id": f"chatcmpl-{request_id or fresh('')}" if job.endpoint == "chat" else fresh("resp_"),
            "model": self._model,
            "created": int(self._clock.epoch()),
            "tally": tally,
        }
        if job.stream:
            make = chat.ChatStream if job.endpoint == "chat" else responses.ResponsesStream
            await self._stream(job, fault, generations, tally, make(job, generations, **about), reply)
            return
        await self._generate(job, fault, generations, tally, None, reply)
        if fault == "garbage":
            await reply.whole(200, b"{not json", b"application/json")
            return
        await reply.json(200, kind.answer(job, generations, **about))

    async def _stream(
        self,
        job: Job,
        fault: faults.Fault | None,
        generations: Sequence[Generation],
        tally: Tally,
        stream: Stream,
        reply: "_Reply",
    ) -> None:
        if fault != "hang":
            await reply.start_stream()
            await reply.part(stream.opened())
        try:
            await self._generate(job, fault, generations, tally, stream, reply)
        except EngineError as error:
            await reply.part(stream.failed(error))
            if job.endpoint == "responses":
                raise _Broken from error
            await reply.end()
            return
        await reply.part(stream.ended())
        await reply.end()

    async def _generate(
        self,
        job: Job,
        fault: faults.Fault | None,
        generations: Sequence[Generation],
        tally: Tally,
        stream: Stream | None,
        reply: "_Reply",
    ) -> None:
        async with self._scheduler.slot(job.priority):
            if fault == "hang":
                await anyio.sleep_forever()
            due = self._clock.monotonic() + self._settings.ttft_ms / 1000
            await self._sleep_until(due)
            if stream is not None:
                await reply.part(stream.started())
            comment_due = due + USAGE_COMMENT_EVERY_S
            breaks_at = faults.middle(generations[0])
            for step in range(max(len(generation.tokens) for generation in generations)):
                if step:
                    due += self._interval_s()
                while comment_due <= due:
                    await self._sleep_until(comment_due)
                    comment_due += USAGE_COMMENT_EVERY_S
                    if stream is not None:
                        await reply.part(render_usage(tally.usage))
                await self._sleep_until(due)
                if step == breaks_at:
                    await self._break(fault, stream, reply)
                for index, generation in enumerate(generations):
                    if step < len(generation.tokens):
                        token = generation.tokens[step]
                        tally.add(token)
                        if stream is not None:
                            last = step == len(generation.tokens) - 1
                            await reply.part(stream.token(index, token, last=last))

    async def _break(self, fault: faults.Fault | None, stream: Stream | None, reply: "_Reply") -> None:
        match fault:
            case "stall":
                await anyio.sleep_forever()
            case "cut":
                raise _Broken
            case "harmony":
                raise internal(faults.HARMONY_MESSAGE)
            case "garbage" if stream is not None:
                await reply.part(faults.GARBAGE)

    def _interval_s(self) -> float:
        others = max(0, self._scheduler.running - 1)
        return (self._settings.inter_token_ms + others * self._settings.inter_token_per_request_ms) / 1000

    async def _sleep_until(self, due: float) -> None:
        await self._clock.sleep(due - self._clock.monotonic())


class _Reply:
    """Writes one HTTP answer."""

    def __init__(self, send: Send, headers: Callable[[], list[tuple[bytes, bytes]]]) -> None:
        self._send, self._headers = send, headers

    async def json(self, status: int, value: Any) -> None:
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        await self.whole(status, body, b"application/json")

    async def whole(self, status: int, body: bytes, media_type: bytes | None) -> None:
        length = (b"content-length", str(len(body)).encode())
        await self._start(status, [length], media_type)
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self) -> None:
        await self._start(200, [], b"text/event-stream; charset=utf-8")

    async def part(self, data: bytes) -> None:
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]], media_type: bytes | None) -> None:
        typed = [] if media_type is None else [(b"content-type", media_type)]
        headers = [*headers, *typed, *self._headers()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


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


class AddressInUse(Exception):  # noqa: N818  named for the state, as the message tells the cure
    """The address to listen on is taken or not ours; the message says how to choose another."""


def run(app: SimulatedApp, *, host: str = "127.0.0.1", port: int = 8090) -> None:
    """Serve ``app`` until the process is told to stop. Raises `AddressInUse`."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise AddressInUse(
            f"cannot listen on {host}:{port}: {error.strerror}. Choose another port with --port."
        ) from error
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None when the client left before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _decode(raw: bytes, content_type: str) -> Any:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise wrong_media_type()
    if not raw:
        raise missing_body()
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        raise invalid_json(error.pos, error.msg) from None
    except UnicodeDecodeError:
        raise EngineError("There was an error parsing the body", kind="Bad Request") from None


async def _unless_disconnected(receive: Receive, work: Awaitable[None]) -> None:
    """Run ``work`` and cancel it the moment the client leaves."""
    async with anyio.create_task_group() as group:
        group.start_soon(functools.partial(_cancel_on_disconnect, receive, group.cancel_scope))
        await work
        group.cancel_scope.cancel()


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _abort(receive: Receive) -> None:
    """Reset the connection. ASGI has no word for that: uvicorn's ``receive`` is bound to what holds the socket."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise internal("this server cannot reset a connection: run the simulator under uvicorn")
    transport.abort()
