"""The gateway's public face: routes, and what stands around every request.

Around the routes stand two layers, outermost first: `_recorded` opens and closes the record of a request,
`_translated` turns every failure into OpenAI's error body. Paths are matched as the bytes that the client
sent: nothing is decoded or normalised, so that no two parts can disagree about a path.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from starlette.types import Receive, Scope

from cluster.core.accounting import Outcome
from cluster.gateway.exchange import Exchange
from cluster.gateway.flow import Director
from cluster.gateway.http_cycle import App, Cycle
from cluster.gateway.http_errors import BadRequest, ClientGone, RequestFailed, failure_of
from cluster.gateway.models import Models
from cluster.gateway.ports import Caller
from cluster.gateway.reply import Reply
from cluster.gateway.telemetry import Telemetry
from cluster.gateway.wire import PATHS

logger = logging.getLogger(__name__)

Handler = Callable[[Exchange, Reply, Cycle], Awaitable[None]]
_MODELS = b"/v1/models"
_AFTER_COMMIT = {
    Outcome.UPSTREAM_FAILED: Outcome.UPSTREAM_BROKEN,
    Outcome.SHED: Outcome.UPSTREAM_BROKEN,
    Outcome.CLIENT_GONE_WAITING: Outcome.CLIENT_GONE_STREAMING,
}
"""What an outcome is called once the response has begun, and not only with comments while it waited."""


def build(director: Director, models: Models, *, now: Callable[[], float]) -> App:
    """Return the application; ``now`` is the monotonic clock, in seconds."""
    handler = _translated(_Routes(director, models))
    return _recorded(handler, director.telemetry, now)


def build_refusing(telemetry: Telemetry, *, now: Callable[[], float]) -> Callable[[RequestFailed], App]:
    """Return what makes the application of one request that is refused before it reaches a route."""

    def refusing(failure: RequestFailed) -> App:
        async def refuse(_exchange: Exchange, _reply: Reply, _cycle: Cycle) -> None:
            raise failure

        return _recorded(_translated(refuse), telemetry, now)

    return refusing


def _recorded(handler: Handler, telemetry: Telemetry, now: Callable[[], float]) -> App:
    async def app(scope: Scope, _receive: Receive, cycle: Cycle) -> None:
        exchange = telemetry.open(scope)
        try:
            await handler(exchange, Reply(exchange, cycle, now), cycle)
        except asyncio.CancelledError:
            exchange.outcome = Outcome.ABORTED_SHUTDOWN
            raise
        finally:
            telemetry.close(exchange)

    return app


def _translated(handler: Handler) -> Handler:
    async def translated(exchange: Exchange, reply: Reply, cycle: Cycle) -> None:
        try:
            await handler(exchange, reply, cycle)
            exchange.outcome = Outcome.COMPLETED
            return
        except Exception as error:
            failure = failure_of(error)
            if failure.outcome is Outcome.INTERNAL:
                logger.error("request %s failed", exchange.request_id, exc_info=error)
        if exchange.committed and exchange.attempts:
            failure.outcome = _AFTER_COMMIT.get(failure.outcome, failure.outcome)
        exchange.outcome = failure.outcome
        if not isinstance(failure, ClientGone):
            reply.fail(failure)

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

    async def __call__(self, exchange: Exchange, reply: Reply, cycle: Cycle) -> None:
        path, method = exchange.scope["raw_path"], exchange.scope["method"]
        if path in self.posts:
            _require(method, "POST")
            await self.posts[path](exchange, reply, cycle)
        elif path == _MODELS:
            _require(method, "GET")
            reply.whole(200, self.models.listing(self._caller(exchange)))
        elif path.startswith(_MODELS + b"/"):
            _require(method, "GET")
            reply.whole(200, self.models.retrieve(exchange, self._caller(exchange)))
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
