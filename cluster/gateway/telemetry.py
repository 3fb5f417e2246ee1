"""Metrics and the usage line: what is told of every request, once, when it has ended.

Label values come from closed sets, and tenants beyond ``MAX_TENANTS`` share one name, so that no client can
grow the series. Children are cached: looking one up in prometheus_client costs more than counting.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from starlette.types import Scope

from cluster.core.accounting import Outcome, Usage
from cluster.core.addresses import Address
from cluster.core.effort import EFFORTS
from cluster.core.limits import Refusal
from cluster.core.objectives import Objectives, kept
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_errors import FORMS
from cluster.gateway.intake import client_request_id
from cluster.gateway.logs import Log, timestamp
from cluster.gateway.plan import Plan
from cluster.gateway.request_ids import RequestIds
from cluster.settings import GptOss, ModelSettings

MAX_TENANTS = 200
"""Tenants that have series of their own."""
NONE, OTHER = "none", "other"
_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_TOKEN_BUCKETS_S = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)


# or each counter has a second series, with the time of its birth
disable_created_metrics()  # type: ignore[no-untyped-call]


class Telemetry:
    """Opens and closes exchanges.

    ``now`` is the monotonic clock and ``wall`` the epoch's, both in seconds; ``address_of`` tells a client's
    address, for audit lines.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        log: Log,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
        address_of: Callable[[Scope], Address | None],
    ) -> None:
        self._log, self._now, self._wall, self._address_of = log, now, wall, address_of
        self._tenants: set[str] = set()
        self._objectives: dict[tuple[str, str], Objectives] = {}
        self._ids = RequestIds()
        self._metrics = _Metrics(registry)

    def watch_keys(self, age_s: Callable[[], float]) -> None:
        """Tell with every scrape how long ago, in seconds, the keys were last known to be current."""
        self._metrics.keys_age.set_function(age_s)

    def watch_issuer(self, name: str, age_s: Callable[[], float]) -> None:
        """Tell with every scrape how long ago, in seconds, the keys of an issuer of tokens were read."""
        self._metrics.jwks_age.labels(name).set_function(age_s)

    def watch_pool(self, pool: str, *, slots: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Tell with every scrape how many slots a pool has, and how many requests wait for it here."""
        self._metrics.slots.labels(pool).set_function(slots)
        self._metrics.waiting.labels(pool).set_function(waiting)

    def watch_objectives(self, models: Mapping[GptOss, ModelSettings]) -> None:
        """Count from now on which requests keep the objectives of their model and effort."""
        for model, settings in models.items():
            for effort in EFFORTS:
                self._objectives[model, effort] = settings.efforts[effort].slo.objectives
                for result in ("kept", "missed"):
                    self._metrics.slo(model, effort, result)  # or the first miss is no increase

    def loop_stalled(self, seconds: float) -> None:
        """Count seconds in which the event loop, and with it every stream, stood still."""
        self._metrics.stalled.inc(seconds)

    def open(self, scope: Scope) -> Exchange:
        """Begin the record of one request."""
        return Exchange(
            scope=scope,
            request_id=self._ids(),
            client_request_id=client_request_id(scope),
            arrived_s=self._now(),
            arrived_epoch_s=self._wall(),
        )

    def in_flight(self, plan: Plan) -> Gauge:
        """Return the gauge of requests that are admitted and not ended."""
        return self._metrics.in_flight(plan.model, plan.choice.level)

    def limiter_degraded(self, degraded: bool) -> None:
        """Note whether limits are decided alone, because the store that all gateways share is away."""
        self._metrics.degraded.set(degraded)

    def lines_lost(self, lines: int) -> None:
        """Count lines of the log, the usage record among them, that nobody will read."""
        self._metrics.lines_lost.inc(lines)

    def close(self, exchange: Exchange) -> None:
        """Count the request and write its usage line; the outcome must be known."""
        e2e_s = self._now() - exchange.arrived_s
        outcome = exchange.outcome or Outcome.INTERNAL
        tokens = _tokens(exchange, outcome)
        self._count(exchange, outcome, tokens, e2e_s)
        if outcome in (Outcome.UNAUTHENTICATED, Outcome.FORBIDDEN):
            self._log.record("audit", self._audit(exchange, outcome))
        self._log.record("usage", self._usage(exchange, outcome, tokens, e2e_s))

    def _count(self, exchange: Exchange, outcome: Outcome, tokens: dict[str, int], e2e_s: float) -> None:
        metrics, plan, caller = self._metrics, exchange.plan, exchange.caller
        tenant = self._tenant(caller.tenant) if caller else NONE
        model, effort = (plan.model, plan.choice.level) if plan else (NONE, NONE)
        metrics.requests(tenant, model, effort, outcome.value).inc()
        if isinstance(exchange.limits, Refusal):
            metrics.rejections(exchange.limits.limit).inc()
        for reason in exchange.retries:
            metrics.retries(reason).inc()
        if exchange.not_tried is not None:
            metrics.not_tried(exchange.not_tried).inc()
        for fault in exchange.faults:
            metrics.faults(fault).inc()
        for kind, count in tokens.items():
            if count:
                metrics.tokens(tenant, model, effort, kind).inc(count)
        if plan is None:
            return
        if exchange.reasoning_truncated:
            metrics.truncated(model, effort).inc()
        metrics.e2e(model, effort).observe(e2e_s)
        if exchange.attempts or exchange.queue_s:
            metrics.queue_wait(model, effort, "gateway").observe(exchange.queue_s)
        if exchange.first_event_s is not None:
            metrics.ttft(model, effort).observe(exchange.first_event_s - exchange.arrived_s)
        if exchange.first_answer_s is not None:
            metrics.ttfa(model, effort).observe(exchange.first_answer_s - exchange.arrived_s)
        inter_token_s = _inter_token_s(exchange)
        if inter_token_s is not None:
            metrics.inter_token(model, effort).observe(inter_token_s)
        self._judge(exchange, plan, outcome, inter_token_s, e2e_s)

    def _judge(
        self, exchange: Exchange, plan: Plan, outcome: Outcome, inter_token_s: float | None, e2e_s: float
    ) -> None:
        """Count whether the objectives were kept; ``flex`` requests yield to the rest and have none."""
        objectives = self._objectives.get((plan.model, plan.choice.level))
        if objectives is None or plan.tier == "flex":
            return
        wait_s = exchange.queue_s  # all that is known of a whole answer
        if exchange.first_event_s is not None:
            wait_s = exchange.first_event_s - exchange.arrived_s
        elif exchange.request is not None and exchange.request.stream:
            wait_s = e2e_s
        good = kept(objectives, outcome, wait_s=wait_s, inter_token_s=inter_token_s, total_s=e2e_s)
        if good is not None:
            self._metrics.slo(plan.model, plan.choice.level, "kept" if good else "missed").inc()

    def _tenant(self, name: str) -> str:
        if name in self._tenants:
            return name
        if len(self._tenants) >= MAX_TENANTS or name in (NONE, OTHER):
            return OTHER
        self._tenants.add(name)
        return name

    def _audit(self, exchange: Exchange, outcome: Outcome) -> dict[str, Any]:
        caller, address = exchange.caller, self._address_of(exchange.scope)
        return {
            "ts": timestamp(self._wall()),
            "request_id": exchange.request_id,
            "act": "request",
            "result": outcome.value,
            "tenant": caller.tenant if caller else None,
            "key_id": caller.key_id if caller else None,
            "address": None if address is None else str(address),
        }

    def _usage(
        self, exchange: Exchange, outcome: Outcome, tokens: dict[str, int], e2e_s: float
    ) -> dict[str, Any]:
        caller, plan, request = exchange.caller, exchange.plan, exchange.request
        status = exchange.status if exchange.status is not None else FORMS[outcome].status
        return {
            "ts": timestamp(exchange.arrived_epoch_s),
            "request_id": exchange.request_id,
            "tenant": caller.tenant if caller else None,
            "key_id": caller.key_id if caller else None,
            "model": plan.model if plan else None,
            "pool": exchange.pool,
            "replica": exchange.replica,
            "effort_asked": plan.choice.asked if plan else None,
            "effort": plan.choice.level if plan else None,
            "effort_reason": plan.choice.reason if plan else None,
            "service_tier": plan.tier if plan else None,
            "outcome": outcome.value,
            "status": status,
            "stream": request.stream if request else None,
            "attempts": exchange.attempts,
            "tokens": tokens,
            "reasoning_budget": plan.max_reasoning_tokens if plan else None,
            "reserved": plan.reserved_tokens if plan and exchange.settled_tokens is not None else None,
            "settled": exchange.settled_tokens,
            "queue_ms": round(exchange.queue_s * 1000, 1),
            "ttft_ms": _milliseconds(exchange.first_event_s, exchange.arrived_s),
            "e2e_ms": round(e2e_s * 1000, 1),
        }


class _Metrics:
    """The series, each with its children cached by label values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by_effort = ("model", "effort")

        def counter(name: str, text: str, *labels: str) -> Callable[..., Counter]:
            return cache(Counter(f"gptoss_{name}", text, labels, registry=registry).labels)

        def histogram(
            name: str, text: str, buckets: tuple[float, ...] = _BUCKETS_S, *more: str
        ) -> Callable[..., Histogram]:
            labels = (*by_effort, *more)
            family = Histogram(f"gptoss_{name}", text, labels, buckets=buckets, registry=registry)
            return cache(family.labels)

        self.requests = counter("requests", "Requests by outcome", "tenant", *by_effort, "outcome")
        self.tokens = counter("tokens", "Tokens by kind", "tenant", *by_effort, "kind")
        self.slo = counter("slo_requests", "Requests by whether objectives were kept", *by_effort, "result")
        self.rejections = counter("limit_rejections", "Requests refused by a limit", "limit")
        self.degraded = Gauge(
            "gptoss_limiter_degraded",
            "1 while this gateway decides limits by its own share",
            registry=registry,
        )
        self.retries = counter("retries", "Second attempts at an engine", "reason")
        self.not_tried = counter("attempts_refused", "Attempts at an engine that were not made", "reason")
        self.faults = counter("harmony_faults", "Answers that broke the Harmony format", "kind")
        self.truncated = counter(
            "reasoning_truncated", "Chains of thought that used up their budget", *by_effort
        )
        self.lines_lost = Counter(
            "gptoss_log_lines_lost", "Lines lost because nobody read standard output", registry=registry
        )
        self.stalled = Counter(
            "gptoss_loop_stalled_seconds", "Seconds in which the event loop stood still", registry=registry
        )
        self.keys_age = Gauge(
            "gptoss_keys_age_seconds", "Seconds since the keys were known to be current", registry=registry
        )
        self.jwks_age = Gauge(
            "gptoss_jwks_age_seconds",
            "Seconds since an issuer's keys were read",
            ["issuer"],
            registry=registry,
        )
        self.in_flight: Callable[..., Gauge] = cache(
            Gauge("gptoss_in_flight", "Requests admitted and not ended", by_effort, registry=registry).labels
        )
        self.ttft = histogram(
            "time_to_first_token_seconds", "Arrival to the engine's first event of a stream"
        )
        self.ttfa = histogram("time_to_first_answer_seconds", "Arrival to a stream's first content or call")
        self.inter_token = histogram(
            "inter_token_seconds", "Mean time between tokens of one stream", _TOKEN_BUCKETS_S
        )
        self.queue_wait = histogram(
            "queue_wait_seconds", "Wait for a place before the engines", _BUCKETS_S, "where"
        )
        self.slots = Gauge(
            "gptoss_pool_slots", "Slots that a pool's replicas report", ["pool"], registry=registry
        )
        self.waiting = Gauge(
            "gptoss_waiting", "Requests that wait here for a pool", ["pool"], registry=registry
        )
        self.e2e = histogram("e2e_seconds", "Arrival to the end of the response")


def _tokens(exchange: Exchange, outcome: Outcome) -> dict[str, int]:
    """Return tokens by kind; what was generated for an answer that never completed is wasted."""
    usage = exchange.usage or Usage()
    generated = usage.reasoning + usage.answer
    completed = outcome is Outcome.COMPLETED
    return {
        "prompt": usage.prompt,
        "cached": usage.cached,
        "reasoning": usage.reasoning if completed else 0,
        "answer": usage.answer if completed else 0,
        "wasted": exchange.wasted_tokens + (0 if completed else generated),
    }


def _inter_token_s(exchange: Exchange) -> float | None:
    """Return the mean seconds between a stream's tokens, hidden ones included; None for fewer than two."""
    usage, first_s, last_s = exchange.usage, exchange.first_event_s, exchange.last_write_s
    if usage is None or first_s is None or last_s is None or usage.reasoning + usage.answer < 2:
        return None
    return max(last_s - first_s, 0.0) / (usage.reasoning + usage.answer - 1)


def _milliseconds(moment_s: float | None, since_s: float) -> float | None:
    return None if moment_s is None else round((moment_s - since_s) * 1000, 1)
