"""From the engine to the client: attempts, streams and whole answers."""

import asyncio
import logging
from asyncio import TimerHandle
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

from cluster.core.prefix import cache_salt
from cluster.core.request import ParsedRequest
from cluster.gateway.admission import Admission
from cluster.gateway.answers import WholeAnswer
from cluster.gateway.asked import asked
from cluster.gateway.chat_stream import ChatStream
from cluster.gateway.engine_errors import answer_cut, poisonous
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_errors import LOST_REPLICA, EngineFailed, HarmonyFault
from cluster.gateway.passage import Passage
from cluster.gateway.plan import Plan
from cluster.gateway.reply import Reply
from cluster.gateway.responses_stream import ResponsesStream
from cluster.gateway.retries import REFUSED_S, Retries
from cluster.gateway.stream_filter import StreamFilter
from cluster.gateway.upstream import EngineAnswer, Engines
from cluster.gateway.wire import engine_body, engine_headers, route_hint
from cluster.settings import StreamSettings

logger = logging.getLogger(__name__)

UNNAMED_PAUSE_S = 0.1
"""Pause before a second attempt where nobody told which replica to avoid. HAProxy takes some milliseconds to
notice that one has died, and hands it the second attempt as well if that comes at once."""


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What every relay of a gateway shares."""

    engines: Engines
    secret: bytes
    """Keeps tenants' prefix caches apart and hides what is hashed for affinity."""
    stream: StreamSettings
    now: Callable[[], float]
    """The monotonic clock, in seconds."""
    retries: Retries
    admission: Admission


class Relay:
    """Forwards one request and relays its answer."""

    def __init__(
        self, settings: RelaySettings, exchange: Exchange, request: ParsedRequest, plan: Plan, reply: Reply
    ) -> None:
        self._settings, self._exchange, self._reply = settings, exchange, reply
        self._request, self._plan = request, plan
        tenant = exchange.caller.tenant if exchange.caller else ""
        self._salt = _salt(settings.secret, tenant)
        self._body = engine_body(request, plan, salt=self._salt)

    async def run(self) -> None:
        """Answer the client. Raises `RequestFailed`."""
        retries = self._settings.retries
        if retries.poison.refuses(self._body, self._settings.now()):
            self._exchange.not_tried = "poison"
            raise poisonous(REFUSED_S)
        retries.active += 1
        try:
            await self._attempts()
        finally:
            retries.active -= 1
        retries.poison.answered(self._body, self._settings.now())

    def keep_alive(self) -> "Pulse | None":
        """Keep a stream open until its pulse is stopped; a whole answer's client waits in silence."""
        if not self._request.stream:
            return None
        self._reply.failure_event = self._filter().failure_event
        return Pulse(self._settings, self._exchange, self._reply)

    async def _attempts(self) -> None:
        """Try, and once more on another replica or pool, unless anything of an answer was shown."""
        try:
            await self._attempt(1, avoid="")
        except EngineFailed as failure:
            self._note(failure)
            if not self._may_retry(failure):
                raise
        else:
            return
        with self._settings.retries.second_attempt():
            if not self._exchange.replica:
                await asyncio.sleep(UNNAMED_PAUSE_S)
            try:
                await self._attempt(2, avoid=self._exchange.replica or "")
            except EngineFailed as failure:
                self._note(failure)
                raise

    def _note(self, failure: EngineFailed) -> None:
        """Count what an attempt's failure tells. Raises another when the request is poison."""
        exchange, reason = self._exchange, failure.retry
        if isinstance(failure, HarmonyFault):
            exchange.faults.append(failure.kind)
        elif reason in ("cut", "reset"):
            exchange.faults.append(reason)
        if reason not in LOST_REPLICA:
            return
        self._settings.admission.lost(exchange.pool or "", exchange.replica)
        if self._settings.retries.poison.lost(self._body, self._settings.now()):
            logger.warning("request %s: two replicas were lost, so it is refused now", exchange.request_id)
            raise poisonous(REFUSED_S) from failure

    def _may_retry(self, failure: EngineFailed) -> bool:
        exchange = self._exchange
        if failure.retry is None or exchange.shown:
            return False
        if not self._settings.retries.allowed:
            exchange.not_tried = "retry_budget"
            return False
        exchange.retries.append(failure.retry)
        return True

    async def _attempt(self, attempt: int, *, avoid: str) -> None:
        settings, request, plan = self._settings, self._request, self._plan
        pool = plan.pools[(attempt - 1) % len(plan.pools)]
        self._exchange.count_attempt(pool)
        hint = route_hint(
            request,
            plan,
            salt=self._salt,
            queued_tokens=settings.admission.waiting_tokens(pool),
            attempt=attempt,
            avoid=avoid,
        )
        headers = engine_headers(
            request_id=self._exchange.request_id, attempt=attempt, priority_ms=plan.priority_ms, hint=hint
        )
        async with settings.engines.post(pool, request.endpoint, self._body, headers) as answer:
            self._exchange.replica = answer.replica
            settings.admission.told(pool, self._exchange.replica, answer.load)
            if not answer.good:
                raise await answer.failure()
            try:
                await (self._stream(answer) if request.stream else self._whole(answer))
            except EngineFailed as failure:
                if failure.retry != "reset":
                    raise
                raise answer_cut() from failure

    async def _whole(self, answer: EngineAnswer) -> None:
        exchange = self._exchange
        whole = WholeAnswer(self._request.endpoint, await answer.whole())
        exchange.usage = whole.usage
        body = whole.filtered(asked(self._request, self._plan))
        if exchange.reasoning_truncated:
            exchange.extra_headers.append((b"x-reasoning-truncated", b"true"))
        self._reply.whole(200, body)

    async def _stream(self, answer: EngineAnswer) -> None:
        seen, exchange = self._filter(), self._exchange
        self._reply.failure_event = seen.failure_event
        report = partial(self._settings.admission.report, exchange.pool or "", answer.replica)
        passage = Passage(exchange, self._reply, seen, self._settings.now, report)
        while not await answer.pour(passage.take):
            await self._reply.caught_up()
        seen.end()
        self._reply.end()

    def _filter(self) -> StreamFilter:
        request, plan, exchange = self._request, self._plan, self._exchange
        if request.endpoint == "chat":
            return ChatStream(asked(request, plan))
        return ResponsesStream(
            asked(request, plan),
            request_id=exchange.request_id,
            model=plan.model,
            created_at=int(exchange.arrived_epoch_s),
        )


_salt = lru_cache(maxsize=4096)(cache_salt)


class Pulse:
    """Commits a stream that is silent for too long, and keeps it open with comments from then on."""

    def __init__(self, settings: RelaySettings, exchange: Exchange, reply: Reply) -> None:
        self._settings, self._exchange, self._reply = settings, exchange, reply
        self._loop = asyncio.get_running_loop()
        self._timer: TimerHandle = self._loop.call_later(settings.stream.commit_after_s, self._fire)

    def stop(self) -> None:
        """Beat no more."""
        self._timer.cancel()

    def _fire(self) -> None:
        keepalive_s, last_s = self._settings.stream.keepalive_s, self._exchange.last_write_s
        silent_s = keepalive_s if last_s is None else self._settings.now() - last_s
        if silent_s >= keepalive_s:
            self._reply.beat()
            silent_s = 0
        self._timer = self._loop.call_later(keepalive_s - silent_s, self._fire)
