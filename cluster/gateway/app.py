"""The gateway's public face: bare ASGI, because every wrapper costs on every streamed chunk.

Around the routes stand two layers, outermost first: `_recorded` opens and closes the record of a request,
`_translated` turns every failure into OpenAI's error body. Paths are matched as the bytes that the client
sent: nothing is decoded or normalised, so that no two parts can disagree about a path.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.core.accounting import Outcome
from cluster.gateway.exchange import Exchange
from cluster.gateway.flow import Director
from cluster.gateway.http_errors import BadRequest, ClientGone, RequestFailed, failure_of
from cluster.gateway.models import Models
from cluster.gateway.ports import Caller
from cluster.gateway.reply import Reply
from cluster.gateway.telemetry import Telemetry
from cluster.gateway.wire import PATHS

logger = logging.getLogger(__name__)

Handler = Callable[[Exchange, Reply, Receive], Awaitable[None]]
_MODELS = b"/v1/models"
_AFTER_COMMIT = {
    Outcome.UPSTREAM_FAILED: Outcome.UPSTREAM_BROKEN,
    Outcome.SHED: Outcome.UPSTREAM_BROKEN,
    Outcome.CLIENT_GONE_WAITING: Outcome.CLIENT_GONE_STREAMING,
}
"""What an outcome is called once the response has begun."""


def build(director: Director, models: Models, *, now: Callable[[], float]) -> ASGIApp:
    """Return the ASGI application; ``now`` is the monotonic clock, in seconds."""
    handler = _translated(_Routes(director, models))
    return _recorded(handler, director.telemetry, now)


def build_refusing(telemetry: Telemetry, *, now: Callable[[], float]) -> Callable[[RequestFailed], ASGIApp]:
    """Return what makes the application of one request that is refused before it reaches a route."""

    def refusing(failure: RequestFailed) -> ASGIApp:
        async def refuse(_exchange: Exchange, _reply: Reply, _receive: Receive) -> None:
            raise failure

        return _recorded(_translated(refuse), telemetry, now)

    return refusing


def _recorded(handler: Handler, telemetry: Telemetry, now: Callable[[], float]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = telemetry.open(scope)
        try:
            await handler(exchange, Reply(exchange, send, now), receive)
        except asyncio.CancelledError:
            exchange.outcome = Outcome.ABORTED_SHUTDOWN
            raise
        finally:
            telemetry.close(exchange)

    return app


def _translated(handler: Handler) -> Handler:
    async def translated(exchange: Exchange, reply: Reply, receive: Receive) -> None:
        try:
            await handler(exchange, reply, receive)
            exchange.outcome = Outcome.COMPLETED
            return
        except Exception as error:
            failure = failure_of(error)
            if failure.outcome is Outcome.INTERNAL:
                logger.error("request %s failed", exchange.request_id, exc_info=error)
        if exchange.committed:
            failure.outcome = _AFTER_COMMIT.get(failure.outcome, failure.outcome)
        exchange.outcome = failure.outcome
        if not isinstance(failure, ClientGone):
            await reply.fail(failure)

    return translated


@dataclass(frozen=True, slots=True)
class _Routes:
    """Finds the handler of a path; a path of ours with another method is 405, any other path 404."""

    director: Director
    models: Models
    posts: dict[bytes, Handler] = field(init=False)

    def __post_init__(self) -> None:
        posts = {path.encode(): partial(self.director, endpoint) for endpoint, path in PATHS.items()}
        object.__setattr__(self, "posts", posts)

    async def __call__(self, exchange: Exchange, reply: Reply, receive: Receive) -> None:
        path, method = exchange.scope["raw_path"], exchange.scope["method"]
        if path in self.posts:
            _require(method, "POST")
            await self.posts[path](exchange, reply, receive)
        elif path == _MODELS:
            _require(method, "GET")
            await reply.whole(200, self.models.listing(self._caller(exchange)))
        elif path.startswith(_MODELS + b"/"):
            _require(method, "GET")
            await reply.whole(200, self.models.retrieve(exchange, self._caller(exchange)))
        else:
            raise BadRequest("There is nothing at this URL.", code="unknown_url", status=404)

    def _caller(self, exchange: Exchange) -> Caller:
        caller = exchange.caller = self.director.authenticate(exchange.scope)
        return caller


def _require(method: str, allowed: str) -> None:
    if method != allowed:
        raise BadRequest(
            f"This URL takes {allowed} only.",
            code="method_not_allowed",
            status=405,
            headers=((b"allow", allowed.encode()),),
        )
