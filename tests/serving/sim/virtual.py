"""An event loop whose time jumps to the next timer when every task waits, and a client for ASGI apps.

A test of minutes then takes milliseconds and is exact: nothing but waiting moves the clock.
"""

import asyncio
import json
import selectors
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from cluster.serving.sim import SimulatedApp, create_app
from cluster.settings import SimulatedEngine

T = TypeVar("T")

KEY = "engine-key"
MODEL = "gpt-oss-120b"
EPOCH = 1_700_000_000.0


class _VirtualSelector(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time, which starts at 0."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return virtual seconds."""
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class LoopClock:
    """The engine's clock on the running loop's time."""

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def epoch(self) -> float:
        """Return a fixed wall time."""
        return EPOCH

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(max(0.0, seconds))


def simulated(*, max_model_len: int = 8192, faults: bool = False, **settings: Any) -> SimulatedApp:
    """Return an app in virtual time; ``settings`` are those of `SimulatedEngine`."""
    return create_app(
        SimulatedEngine(**settings),
        model=MODEL,
        replica="replica-0",
        engine_key=KEY,
        clock=LoopClock(),
        faults=faults,
        max_model_len=max_model_len,
    )


class Exchange:
    """One request under way: what has arrived so far, and when."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[tuple[float, bytes]] = []
        self.complete = False
        self.task: asyncio.Task[None] | None = None
        self._left = asyncio.Event()

    def leave(self) -> None:
        """Disconnect, as a client does that has gone."""
        self._left.set()

    async def wait(self) -> "Exchange":
        """Wait until the app has finished with the request."""
        assert self.task is not None
        await self.task
        return self

    @property
    def body(self) -> bytes:
        """All bytes so far."""
        return b"".join(data for _, data in self.chunks)

    @property
    def json(self) -> Any:
        """The whole body as JSON."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[str]:
        """The stream's data and comments, in order, without the frames around them."""
        frames = self.body.decode().removesuffix("\n\n").split("\n\n")
        return [frame.split("\n")[-1].removeprefix("data: ") for frame in frames]

    @property
    def events(self) -> list[Any]:
        """The stream's events, without comments and the end mark."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    async def receive(self, sent: list[MutableMapping[str, Any]]) -> MutableMapping[str, Any]:
        """Give the app what the client sends."""
        if sent:
            return sent.pop(0)
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take what the app sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.chunks.append((asyncio.get_running_loop().time(), message.get("body", b"")))
        self.complete = not message.get("more_body", False)


def start(
    app: Callable[..., Awaitable[None]],
    path: str,
    body: Any = None,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> Exchange:
    """Send a request and return without waiting for the answer; ``body`` is bytes, or a value for JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
    }
    exchange = Exchange()
    messages: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return await exchange.receive(messages)

    async def serve() -> None:
        await app(scope, receive, exchange.send)

    exchange.task = asyncio.create_task(serve())
    return exchange


def call(
    app: Callable[..., Awaitable[None]],
    path: str,
    body: Any = None,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> Exchange:
    """Send one request in a loop of its own and return the finished exchange."""

    async def main() -> Exchange:
        return await start(app, path, body, method=method, headers=headers).wait()

    return run(main())


CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"


def chat_body(text: str = "Tell me about otters", /, **fields: Any) -> dict[str, Any]:
    """Return a chat body with one user message."""
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "reasoning_effort": "low", **fields}


def responses_body(text: Any = "Tell me about otters", /, **fields: Any) -> dict[str, Any]:
    """Return a Responses body."""
    return {"model": MODEL, "input": text, "reasoning": {"effort": "low"}, **fields}


WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    "required": ["city", "days"],
}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
RESPONSES_TOOL = {"type": "function", "name": "get_weather", "parameters": WEATHER}
