"""Who owns a reservation: from the moment it is made to its settlement, exactly once, however the work ends.

A generator's ``finally`` would lose it: an unshielded ``await`` there is dropped when the client leaves. So
the work runs in one task group beside a watcher of the client's connection, and the settlement in a shielded
scope after both.
"""

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup
from starlette.types import Receive

from cluster.core.accounting import Outcome
from cluster.core.limits import Reservation
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_errors import ClientGone, DeadlineExceeded, RequestFailed, ShutDown
from cluster.gateway.ports import LimitStore

_CHARGED_UNSTREAMED = (Outcome.CLIENT_GONE_WAITING, Outcome.DEADLINE)
"""Endings that are not the engine's fault: what ran before them is charged."""


class Owned:
    """One reservation and the work that runs under it, for at most ``max_request_s`` seconds."""

    def __init__(
        self, exchange: Exchange, reservation: Reservation, limits: LimitStore, *, max_request_s: float
    ) -> None:
        self._exchange, self._reservation, self._limits = exchange, reservation, limits
        self._max_request_s = max_request_s
        self._failure: Exception | None = None
        self._tasks: TaskGroup | None = None

    async def run(self, work: Callable[["Owned"], Awaitable[None]], receive: Receive) -> None:
        """Run ``work``, then settle.

        Raises what ended the work early: its own failure, `ClientGone`, `DeadlineExceeded`, or what was given
        to `end`.
        """
        finished = False
        self._failure = None
        try:
            async with anyio.create_task_group() as self._tasks:
                scope = self._tasks.cancel_scope
                scope.deadline = anyio.current_time() + self._max_request_s
                self._tasks.start_soon(self._watch, receive)
                await self._guarded(work, self)
                finished = True
                scope.cancel()
            if not finished and self._failure is None:
                self._failure = DeadlineExceeded("The request took longer than any request may.")
        except BaseException:
            self._failure = self._failure or ShutDown()
            raise
        finally:
            self._tasks = None
            with anyio.CancelScope(shield=True):
                await self._settle()
        if self._failure is not None:
            raise self._failure

    def end(self, failure: RequestFailed) -> None:
        """End the work early, because of ``failure``."""
        if self._failure is None and self._tasks is not None:
            self._failure = failure
            self._tasks.cancel_scope.cancel()

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` beside the main work; its failure ends both."""
        if self._tasks is not None:
            self._tasks.start_soon(self._guarded, work)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._exchange.finished:
            self.end(ClientGone())

    async def _guarded(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        # caught here: out of a task group it would come as an exception group
        try:
            await work(*args)
        except Exception as error:
            self._failure = self._failure or error
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()

    async def _settle(self) -> None:
        tokens = charge(self._exchange, self._failure)
        self._exchange.settled_tokens = tokens
        await self._limits.settle(self._reservation, tokens=tokens)


def charge(exchange: Exchange, failure: Exception | None) -> int:
    """Return the tokens that the tenant is charged for.

    What the engine told, where anything reached the client or the client itself ended the request. Where it
    told nothing, a stream that has begun costs its prompt; an answer that the client did not wait for keeps
    its whole reservation, because nobody knows what it took.
    """
    outcome = failure.outcome if isinstance(failure, RequestFailed) else Outcome.INTERNAL
    if failure is not None and not exchange.committed and outcome not in _CHARGED_UNSTREAMED:
        return 0
    if exchange.usage is not None:
        return exchange.usage.total
    if exchange.request is None or exchange.plan is None or exchange.attempts == 0:
        return 0
    if exchange.request.stream:
        return exchange.request.prompt_tokens if exchange.first_event_s is not None else 0
    return exchange.plan.reserved_tokens
