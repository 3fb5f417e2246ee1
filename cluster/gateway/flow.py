"""The life of one request for a completion, step by step."""

from asyncio import Future
from dataclasses import dataclass
from functools import partial

from cluster.core.cost import CostModel
from cluster.core.limits import Ask, Refusal
from cluster.core.request import Endpoint, ParsedRequest
from cluster.gateway.admission import Gate
from cluster.gateway.auth import Authenticator
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_cycle import Cycle
from cluster.gateway.http_errors import LimitReached, RequestFailed
from cluster.gateway.intake import read_request
from cluster.gateway.plan import Plan, plan
from cluster.gateway.ports import Caller, LimitStore
from cluster.gateway.relay import Relay, RelaySettings
from cluster.gateway.reply import Reply
from cluster.gateway.stream import Owned
from cluster.gateway.telemetry import Telemetry
from cluster.settings import Settings


@dataclass(frozen=True, slots=True)
class Director:
    """Leads every completion from its head to its settlement. One per gateway.

    The steps: 1 telemetry (`app`, around this), 2 authenticate, 3 parse, 4 plan the effort, 5 reserve,
    6 admit, 7 forward, 8 route and 9 generate (the engine's), 10 relay, 11 settle (`Owned`, around 6 to 10).
    """

    settings: Settings
    authenticate: Authenticator
    limits: LimitStore
    costs: CostModel
    gate: Gate
    relays: RelaySettings
    telemetry: Telemetry

    async def __call__(self, endpoint: Endpoint, exchange: Exchange, reply: Reply, cycle: Cycle) -> None:
        """Answer the client. Raises `RequestFailed` or `InvalidRequest`."""
        caller = exchange.caller = self.authenticate(exchange.scope)
        request = exchange.request = await read_request(
            cycle, endpoint, limit=self.settings.gateway.max_body_bytes
        )
        decided = exchange.plan = plan(
            self.settings, self.costs, caller, request, now_epoch_s=exchange.arrived_epoch_s
        )
        owned = await self._reserve(exchange, caller, decided)
        await owned.run(partial(self._serve, exchange, request, decided, reply), cycle)

    async def _reserve(self, exchange: Exchange, caller: Caller, decided: Plan) -> Owned:
        ask = Ask(
            request_id=exchange.request_id,
            tenant=caller.tenant,
            key_id=caller.key_id,
            effort=decided.choice.level,
            tokens=decided.reserved_tokens,
            limits=decided.limits,
        )
        exchange.limits = held = await self.limits.reserve(ask)
        if isinstance(held, Refusal):
            raise LimitReached(held)
        longest_s = self.settings.limits.max_request_s
        return Owned(exchange, held, self.limits, self.costs, max_request_s=longest_s)

    async def _serve(
        self, exchange: Exchange, request: ParsedRequest, decided: Plan, reply: Reply, owned: Owned
    ) -> None:
        self.gate.enter(owned)
        try:
            admission = self.relays.admission
            place = admission.ask(exchange, request, decided)
            try:
                relay = Relay(self.relays, exchange, request, decided, reply)
                pulse = relay.keep_alive()
                try:
                    if place.turn is not None:
                        await self._wait(exchange, place.turn)
                    await self._relay(relay, decided)
                finally:
                    if pulse is not None:
                        pulse.stop()
            finally:
                admission.leave(decided, place)
        finally:
            self.gate.leave(owned)

    async def _wait(self, exchange: Exchange, turn: Future[RequestFailed | None]) -> None:
        started_s = self.relays.now()
        try:
            refused = await turn
        finally:
            exchange.queue_s = self.relays.now() - started_s
        if refused is not None:
            raise refused

    async def _relay(self, relay: Relay, decided: Plan) -> None:
        in_flight = self.telemetry.in_flight(decided)
        in_flight.inc()
        try:
            await relay.run()
        finally:
            in_flight.dec()
