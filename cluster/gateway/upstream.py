"""The way to the engines: requests to pools, and what their answers and failures are to the gateway."""

from collections.abc import Mapping
from types import TracebackType

from cluster.core.engine import LOAD_HEADER, REPLICA_HEADER
from cluster.core.request import Endpoint
from cluster.gateway import http_client
from cluster.gateway.engine_errors import connection_lost, judge_response, no_replica
from cluster.gateway.http_client import Connection, ConnectionBroken, Sink, Unreachable
from cluster.gateway.http_errors import RequestFailed
from cluster.gateway.wire import PATHS

_REPLICA, _LOAD = REPLICA_HEADER.encode(), LOAD_HEADER.encode()
_MAX_ERROR_BYTES = 64 * 1024


class EngineAnswer:
    """An engine's response, of any status."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.good = connection.status == 200
        """Whether it is an answer; else `failure` tells what it is."""

    @property
    def replica(self) -> str | None:
        """Id of the replica that answers; None when it does not tell."""
        value = self._connection.headers.get(_REPLICA)
        return None if value is None else value.decode("latin-1")

    @property
    def load(self) -> bytes | None:
        """The header in which the replica tells its load; None when it tells nothing."""
        return self._connection.headers.get(_LOAD)

    async def whole(self) -> bytes:
        """Return the whole body. Raises `EngineFailed`."""
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunk(self) -> bytes:
        """Return what has come of the body, empty at its end. Raises `EngineFailed` when it is cut."""
        try:
            return await self._connection.piece()
        except ConnectionBroken as error:
            raise connection_lost() from error

    async def pour(self, sink: Sink) -> bool:
        """Give ``sink`` each piece of the body as it comes, until it wants no more.

        Returns whether all has come. Raises `EngineFailed` when the body is cut, and what ``sink`` raises.
        """
        try:
            return await self._connection.pour(sink)
        except ConnectionBroken as error:
            raise connection_lost() from error

    async def failure(self) -> RequestFailed:
        """Return what a response that is not `good` means. Raises `EngineFailed` when it is cut."""
        body = b""
        while len(body) < _MAX_ERROR_BYTES and (part := await self.chunk()):
            body += part
        media_type = self._connection.headers.get(b"content-type", b"").decode("latin-1")
        return judge_response(self._connection.status, media_type, body)


class Post:
    """A request on its way; leaving the context before the answer's end cancels it at the engine."""

    def __init__(self, exchange: http_client.Exchange) -> None:
        self._exchange = exchange

    async def __aenter__(self) -> EngineAnswer:
        """Send it. Raises `EngineFailed` when no response comes."""
        try:
            return EngineAnswer(await self._exchange.__aenter__())
        except Unreachable as error:
            raise no_replica() from error
        except ConnectionBroken as error:
            raise connection_lost() from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Be done with it."""
        await self._exchange.__aexit__(kind, error, trace)


class Engines:
    """Posts requests to pools. One per gateway; close it at the end."""

    def __init__(self, url: str, key: str) -> None:
        self._client = http_client.Client(url)
        self._common = f"host: {self._client.authority}\r\nauthorization: Bearer {key}\r\n"
        self._starts: dict[tuple[str, Endpoint], str] = {}

    def post(self, pool: str, endpoint: Endpoint, body: bytes, headers: Mapping[str, str]) -> Post:
        """Return the request for ``endpoint`` of ``pool``; entering it sends it.

        Raises ``ValueError`` for a header that would break the request's form.
        """
        start = self._starts.get((pool, endpoint))
        if start is None:
            start = self._starts[pool, endpoint] = f"POST /{pool}{PATHS[endpoint]} HTTP/1.1\r\n{self._common}"
        given = "\r\n".join([f"{name}: {value}" for name, value in headers.items()])
        if given.count("\n") != len(headers) - 1:
            raise ValueError("a header of a request to an engine holds a line break")
        return Post(self._client.post(f"{start}{given}\r\n".encode("latin-1"), body))

    async def close(self) -> None:
        """Close the idle connections; those in use end with their requests."""
        self._client.close()
