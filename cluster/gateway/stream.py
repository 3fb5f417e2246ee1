"""Who owns a reservation: from the moment it is made to its settlement, exactly once, however the work ends.

A generator's ``finally`` would lose it: an ``await`` there is dropped when the client leaves. So the work
runs in one task that the client's leaving cancels, and the settlement after it is a plain call that no
cancellation reaches. (anyio's task group and shielded scope would do the same for 100 µs a request.)
"""

import asyncio
from collections.abc import Awaitable, Callable

from cluster.core.accounting import Outcome, Usage
from cluster.core.cost import CostModel
from cluster.core.limits import Reservation
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_cycle import Cycle
from cluster.gateway.http_errors import ClientGone, DeadlineExceeded, RequestFailed, ShutDown
from cluster.gateway.plan import Plan
from cluster.gateway.ports import LimitStore

_CHARGED_UNSTREAMED = (Outcome.CLIENT_GONE_WAITING, Outcome.DEADLINE)
"""Endings that are not the engine's fault: what ran before them is charged."""


_TOO_LONG = "The request took longer than any request may."


class Owned:
    """One reservation and the work that runs under it, for at most ``max_request_s`` seconds."""

    def __init__(
        self,
        exchange: Exchange,
        reservation: Reservation,
        limits: LimitStore,
        costs: CostModel,
        *,
        max_request_s: float,
    ) -> None:
        self._exchange, self._reservation, self._limits = exchange, reservation, limits
        self._costs = costs
        self._max_request_s = max_request_s
        self._failure: Exception | None = None
        self._running: asyncio.Task[None] | None = None

    async def run(self, work: Callable[["Owned"], Awaitable[None]], cycle: Cycle) -> None:
        """Run ``work``, then settle.

        Raises what ended the work early: its own failure, `ClientGone`, `DeadlineExceeded`, or what was given
        to `end`.
        """
        loop = asyncio.get_running_loop()
        self._running = asyncio.current_task(loop)
        timer = loop.call_later(self._max_request_s, self._expire)
        cycle.on_leave = self._left
        try:
            if cycle.disconnected:
                raise ClientGone
            await work(self)
        except asyncio.CancelledError:
            if self._cancelled_from_outside():
                raise
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._running = cycle.on_leave = None
            timer.cancel()
            self._settle()
        if self._failure is not None:
            raise self._failure

    def end(self, failure: Exception) -> None:
        """End the work early, because of ``failure``."""
        if self._failure is None and self._running is not None:
            self._failure = failure
            self._running.cancel()

    def learn_so_far(self) -> None:
        """Learn from how far the answer has come."""
        learn_so_far(self._costs, self._exchange)

    def _cancelled_from_outside(self) -> bool:
        """Take back the cancellation that `end` asked for; return whether there is another."""
        assert self._running is not None
        if self._failure is None:
            self._failure = ShutDown()
            return True
        return self._running.uncancel() > 0

    def _expire(self) -> None:
        self.end(DeadlineExceeded(_TOO_LONG))

    def _left(self) -> None:
        if not self._exchange.finished:
            self.end(ClientGone())

    def _settle(self) -> None:
        tokens = charge(self._exchange, self._failure)
        self._exchange.settled_tokens = tokens
        self._limits.settle(self._reservation, tokens=tokens)
        learn(self._costs, self._exchange, self._failure)


def charge(exchange: Exchange, failure: Exception | None) -> int:
    """Return the tokens that the tenant is charged for.

    What the engine told, where anything reached the client or the client itself ended the request. Where it
    told nothing, a stream that has begun costs its prompt; an answer that the client did not wait for costs
    what such answers do, because nobody knows what it took.
    """
    outcome = failure.outcome if isinstance(failure, RequestFailed) else Outcome.INTERNAL
    if failure is not None and not exchange.shown and outcome not in _CHARGED_UNSTREAMED:
        return 0
    if exchange.usage is not None:
        return exchange.usage.total
    request, plan = exchange.request, exchange.plan
    if request is None or plan is None or exchange.attempts == 0:
        return 0
    if request.stream:
        return request.prompt_tokens if exchange.first_event_s is not None else 0
    return request.prompt_tokens + plan.expected_output_tokens * request.choices


def learn(costs: CostModel, exchange: Exchange, failure: Exception | None) -> None:
    """Tell ``costs`` what the answer took, or took at least where its limit or a ``failure`` cut it.

    A budget cuts a thought, not the answer: what it took is what such requests of the tenant take.
    """
    if (known := _known(exchange)) is None:
        return
    tenant, plan, usage = known
    at_limit = usage.reasoning + usage.answer >= plan.max_output_tokens
    costs.observe(
        plan.model,
        plan.choice.level,
        tenant,
        reasoning=usage.reasoning,
        answer=usage.answer,
        cut=failure is not None or at_limit,
        counted=exchange.counted_tokens,
    )


def learn_so_far(costs: CostModel, exchange: Exchange) -> None:
    """Tell ``costs`` how far an answer that runs has come, as far as the engine has told."""
    if (known := _known(exchange)) is None:
        return
    tenant, plan, usage = known
    output = usage.reasoning + usage.answer
    costs.progress(plan.model, plan.choice.level, tenant, counted=exchange.counted_tokens, output=output)
    exchange.counted_tokens = max(output, exchange.counted_tokens)


def _known(exchange: Exchange) -> tuple[str, Plan, Usage] | None:
    """Return tenant, plan and tokens of an answer of which something can be learned.

    Of several choices the engine tells the sum alone, and nothing can be learned from that.
    """
    caller, request, plan, usage = exchange.caller, exchange.request, exchange.plan, exchange.usage
    if caller is None or request is None or plan is None or usage is None or request.choices > 1:
        return None
    return caller.tenant, plan, usage
