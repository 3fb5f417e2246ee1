"""Limits shared by all gateways in Redis or Valkey; while it is away, each decides by its own share.

The store keeps small books of its own: what is being asked, what this gateway's requests hold, and what is
settled but not confirmed. From these it goes on alone when Redis is late, lost or refuses, and tells Redis
everything once it is back: first what runs (`adopt`, which does nothing where the reservation is known), then
what has ended (`settle`, which does nothing where it is not). So whatever was lost on the way, each request
is counted once and settled once.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from cluster.core.limits import Ask, Refusal, Reservation
from cluster.settings import RedisSettings
from cluster.stores.local_share import Buckets, Budgets, LocalShare
from cluster.stores.memory_limits import LEASE_GRACE_S
from cluster.stores.redis_dial import Dialer, RedisUnfit, Server, within
from cluster.stores.redis_link import Answer, Link, RedisAway
from cluster.stores.redis_script import GATEWAYS_KEY, SCRIPT, LimitScript, buckets, decision, pack, spent
from cluster.stores.troubles import Troubles

logger = logging.getLogger(__name__)

BEAT_S = 2.0
"""How often a gateway says that it is alive, and learns how many are."""
ALIVE_S = 7.0
"""How long a beat counts: three may be lost, and the dead are noticed within ten seconds."""
MAX_SKEW_S = 2.0
"""Seconds by which a gateway's clock may differ from that of Redis before it is called wrong."""
RETRY_S = 0.25
"""How often an outage is looked at."""
CHUNK = 64
"""Commands sent at once when Redis is back, so that it stays quick for others meanwhile."""
MAX_UNSETTLED = 20_000
"""Settlements kept while Redis is away; beyond it the oldest is left to its lease."""


class RedisLimits:
    """The `LimitStore` in Redis: an asynchronous context manager, which keeps its connection while inside.

    ``clock`` returns seconds of the epoch and counts only while Redis is away. ``on_degraded`` is told when
    this gateway begins to decide alone, and when it is over.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        max_request_s: float,
        clock: Callable[[], float],
        on_degraded: Callable[[bool], None],
        script: bytes = SCRIPT,
    ) -> None:
        self._settings, self._max_request_s = settings, max_request_s
        self._clock, self._on_degraded = clock, on_degraded
        self._script = LimitScript(lease_us=int((max_request_s + LEASE_GRACE_S) * 1e6), script=script)
        self._dialer = Dialer(settings)
        self._name = uuid.uuid4().hex.encode()
        self._gateways = settings.assumed_gateways
        self._link: Link | None = None
        self._server: Server | None = None
        self._budgets, self._buckets = Budgets(clock), Buckets(clock)
        self._asking: dict[str, tuple[Ask, asyncio.Future[Reservation | Refusal]]] = {}
        self._held: dict[str, Ask] = {}
        self._unknown: dict[str, Ask] = {}
        """What was admitted, but perhaps without Redis."""
        self._unsettled: dict[str, tuple[Ask, int]] = {}
        """What has ended, with the tokens used, until Redis confirms."""
        self._alone: LocalShare | None = None
        """Decides while Redis is away; None: it is there."""
        self._troubles = Troubles(logger)
        """What only a person can mend."""
        self._known = False
        """Whether this gateway has beaten on the present link."""
        self._trouble = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def degraded(self) -> bool:
        """Whether this gateway decides alone."""
        return self._alone is not None

    @property
    def gateways(self) -> int:
        """Gateways last known to be alive, this one included."""
        return self._gateways

    @property
    def unsettled(self) -> int:
        """Settlements that Redis has not confirmed yet."""
        return len(self._unsettled)

    async def __aenter__(self) -> "RedisLimits":
        """Connect. Raises `RedisUnfit` for what a person must mend; Redis may be away, and come later."""
        try:
            await self._look()
        except RedisUnfit:
            raise
        except RedisAway as error:
            self._degrade(str(error))
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Tell Redis what has ended, if it is there, and leave."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        link, self._link = self._link, None
        if link is None:
            return
        try:
            await self._tell(link)
            await within(link.ask(pack(b"ZREM", GATEWAYS_KEY, self._name)))
        except RedisAway as error:
            if self._unsettled:
                logger.warning("limits: %d settlements are left to their leases: %s", self.unsettled, error)
        link.close()

    async def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Take all that ``ask`` wants in one step, or nothing.

        Raises ``ValueError`` when its request id holds a reservation already.
        """
        request_id = ask.request_id
        if request_id in self._held or request_id in self._asking:
            raise ValueError(f"request {request_id} holds a reservation already")
        if self._alone is not None or self._link is None:
            return self._decide_alone(ask)
        future: asyncio.Future[Reservation | Refusal] = asyncio.get_running_loop().create_future()
        self._asking[request_id] = ask, future
        self._link.send(self._script.reserve(ask), self._on_decision, request_id)
        try:
            return await future
        except asyncio.CancelledError:
            self._settle(request_id, 0)  # if it was admitted in the same moment
            raise

    def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Correct the reservation to the ``tokens`` used, refund or debt, and free its slot. Idempotent."""
        self._settle(reservation.ask.request_id, tokens)

    def _settle(self, request_id: str, tokens: int) -> None:
        if (ask := self._held.pop(request_id, None)) is None:
            return
        if self._alone is None:
            self._unknown.pop(request_id, None)
        else:
            self._alone.settle(ask, tokens=tokens)
        self._end(ask, tokens)

    def _end(self, ask: Ask, tokens: int) -> None:
        """Have Redis settle, now or once it is back."""
        self._unsettled[ask.request_id] = ask, tokens
        if self._alone is None and self._link is not None:
            self._link.send(self._script.settle(ask, used=tokens), self._on_settled, ask.request_id)
        elif len(self._unsettled) > MAX_UNSETTLED:
            oldest = next(iter(self._unsettled))
            del self._unsettled[oldest]
            self._unknown.pop(oldest, None)

    def _on_decision(self, request_id: str, answer: Answer) -> None:
        ask, future = self._asking.pop(request_id, (None, None))
        if ask is None or future is None:
            return  # decided alone meanwhile
        if isinstance(answer, Exception):
            self._asking[request_id] = ask, future
            self._retry_or_degrade(answer, self._script.reserve(ask), self._on_decision, request_id)
            return
        if any(level.tokens_per_day is not None for level in ask.limits):
            self._budgets.note(ask, spent(answer))
        self._buckets.note(ask, buckets(answer))
        try:
            self._conclude(future, ask, decision(ask, answer))
        except ValueError as error:
            if not future.done():
                future.set_exception(error)

    def _on_settled(self, request_id: str, answer: Answer) -> None:
        if request_id not in self._unsettled:
            return
        if not isinstance(answer, Exception):
            del self._unsettled[request_id]
            return
        ask, tokens = self._unsettled[request_id]
        command = self._script.settle(ask, used=tokens)
        self._retry_or_degrade(answer, command, self._on_settled, request_id)

    def _retry_or_degrade(
        self, error: Exception, command: bytes, on_answer: Callable[[str, Answer], None], request_id: str
    ) -> None:
        """Send the script along where Redis has forgotten it; otherwise go on alone."""
        if str(error).startswith("NOSCRIPT") and self._link is not None:
            self._link.send(self._script.with_text(command), on_answer, request_id)
        else:
            self._degrade(str(error))

    def _conclude(
        self, future: "asyncio.Future[Reservation | Refusal]", ask: Ask, decided: Reservation | Refusal
    ) -> None:
        """Hand a decision to who asked; what nobody waits for any more is given back."""
        admitted = isinstance(decided, Reservation)
        if future.done():
            if admitted:
                self._end(ask, 0)
            return
        if admitted:
            self._held[ask.request_id] = ask
        future.set_result(decided)

    def _decide_alone(self, ask: Ask) -> Reservation | Refusal:
        assert self._alone is not None
        decided = self._alone.reserve(ask)
        if isinstance(decided, Reservation):
            self._held[ask.request_id] = self._unknown[ask.request_id] = ask
        return decided

    def _degrade(self, reason: str) -> None:
        """Decide alone from now on; also what is being asked."""
        if self._alone is not None:
            return
        logger.warning(
            "limits: Redis is away (%s); this gateway decides by its share, 1/%d of each limit",
            reason,
            self._gateways,
        )
        self._alone = LocalShare(
            self._clock,
            max_request_s=self._max_request_s,
            gateways=self._gateways,
            running=self._held.values(),
            budgets=self._budgets,
            buckets=self._buckets,
        )
        self._unknown.update(self._held)
        asking, self._asking = self._asking, {}
        for request_id, (ask, future) in asking.items():
            decided = None if future.done() else self._decide_alone(ask)
            if not isinstance(decided, Reservation):  # but Redis may have admitted it
                self._unsettled[request_id] = ask, 0
            if decided is not None:
                future.set_result(decided)
        self._trouble.set()
        self._on_degraded(True)

    async def _keep(self) -> None:
        """Look after the connection, for as long as the store is open."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self.degraded else BEAT_S):
                    await self._trouble.wait()
            self._trouble.clear()
            try:
                await self._look()
            except RedisAway as error:
                self._degrade(str(error))
                if isinstance(error, RedisUnfit):  # whatever the outage began with
                    self._troubles.tell("limits.redis", str(error))
                if self._link is not None:
                    self._link.close()

    async def _look(self) -> None:
        """Connect if need be, beat, and come back from an outage if it is over. Raises `RedisAway`."""
        if self._link is None or self._link.lost:
            await self._connect()
        link, loop = self._link, asyncio.get_running_loop()
        assert link is not None
        began_s = loop.time()
        # with its text, so that a server that has lost the script learns it again
        beat = self._script.with_text(self._script.beat(self._name, counts_us=int(ALIVE_S * 1e6)))
        [[self._gateways, is_new], time] = await within(link.ask(beat, pack(b"TIME")))
        self._compare_clocks(time)
        was_known, self._known = self._known, True
        if self.degraded:
            if loop.time() - began_s <= self._settings.timeout_ms / 1000:
                await self._tell(link)
                self._recover()
        elif is_new and was_known:
            logger.warning(
                "limits: Redis has lost its data; what runs here is counted again, the rest begins full"
            )
            self._unknown.update(self._held)
            await self._adopt(link)
        if self._server is not None and await self._dialer.moved(self._server):
            raise RedisAway("the Sentinels name another primary")

    def _compare_clocks(self, time: list[bytes]) -> None:
        """Say so where this machine's clock is not that of Redis, which all gateways see."""
        ahead_s = self._clock() - int(time[0]) - int(time[1]) / 1e6
        if abs(ahead_s) > MAX_SKEW_S:
            where = "ahead of" if ahead_s > 0 else "behind"
            self._troubles.tell(
                "clock",
                f"this machine's clock is {abs(ahead_s):.0f} s {where} that of Redis, so that this gateway's "
                "requests have other deadlines than those of others: synchronise the clocks of all machines",
            )
        else:
            self._troubles.over("clock")

    async def _connect(self) -> None:
        link, server = await self._dialer.connect(self._new_link, *self._script.trial)
        self._link, self._known = link, False
        if server != self._server:
            logger.info("limits: shared in Redis %s at %s", server.version, server.address)
            if not server.keeps_a_log:
                logger.warning(
                    "limits: Redis at %s has appendonly off: a restart forgets what was spent today. "
                    "Run `CONFIG SET appendonly yes`, and set it in redis.conf too",
                    server.address,
                )
        self._server = server

    def _new_link(self) -> Link:
        def lost(reason: str) -> None:
            if self._link is link:
                self._degrade(reason)

        timeout_ms = self._settings.timeout_ms
        link = Link(
            timeout_s=timeout_ms / 1000,
            on_late=lambda: lost(f"no answer within {timeout_ms:g} ms"),
            on_lost=lost,
        )
        return link

    async def _tell(self, link: Link) -> None:
        """Tell Redis what runs and what has ended without it."""
        while self._unknown or self._unsettled:
            await self._adopt(link)
            ended = dict(islice(self._unsettled.items(), CHUNK))
            await within(link.ask(*(self._script.settle(ask, used=used) for ask, used in ended.values())))
            for request_id in ended:
                self._unsettled.pop(request_id, None)

    async def _adopt(self, link: Link) -> None:
        """Tell Redis what runs without its knowledge."""
        while self._unknown:
            told = dict(islice(self._unknown.items(), CHUNK))
            for request_id in told:
                del self._unknown[request_id]
            try:
                await within(link.ask(*(self._script.adopt(ask) for ask in told.values())))
            except RedisAway:
                self._unknown = {**told, **self._unknown}
                raise

    def _recover(self) -> None:
        """Let Redis decide again; must follow `_tell` in the same turn of the event loop."""
        self._alone = None
        self._troubles.over("limits.redis")
        logger.warning("limits: Redis is back; it decides for all %d gateways", self._gateways)
        self._on_degraded(False)
