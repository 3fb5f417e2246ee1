"""The series on ``/metrics``: all documented, with label values from closed sets, and never too many."""

import io
import json
from functools import cache
from itertools import cycle, product
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cluster.core.accounting import Outcome, Usage
from cluster.core.effort import EFFORTS
from cluster.core.limits import LimitName, Refusal
from cluster.core.request import ParsedRequest, parse_request
from cluster.gateway.http_errors import FaultKind, NotTried, RetryReason
from cluster.gateway.logs import LineWriter, Log
from cluster.gateway.plan import Plan, cost_model, plan
from cluster.gateway.telemetry import MAX_TENANTS, NONE, Telemetry
from cluster.settings import GptOss, LoggingSettings
from tests.gateway import contract_document as contract
from tests.gateway.conftest import caller, chat_body, settings

ISSUERS = ("corp", "partner")
POOLS = ("gpt-oss-120b", "gpt-oss-20b")
BUDGET = 16


@cache
def plans() -> tuple[Plan, ...]:
    """Return what a request may run as: each model at each effort."""
    found = []
    for model, effort in product(get_args(GptOss), EFFORTS):
        asked = request(model=model, reasoning_effort=effort, thinking_token_budget=BUDGET)
        found.append(plan(settings(), cost_model(settings()), caller(), asked, now_epoch_s=0))
    return tuple(found)


def request(**changes: Any) -> ParsedRequest:
    """Return a chat request."""
    return parse_request("chat", json.dumps(chat_body(**changes)).encode(), content_type="application/json")


@pytest.fixture(scope="module")
def crowded() -> str:
    """Return the metrics of a gateway that has met everything that it can tell of, from too many tenants."""
    registry, writer = CollectorRegistry(), LineWriter(io.BytesIO())
    telemetry = Telemetry(
        registry,
        Log(writer, LoggingSettings()),
        now=lambda: 9.0,
        wall=lambda: 0.0,
        address_of=lambda _scope: None,
    )
    telemetry.watch_objectives(settings().models)
    telemetry.watch_keys(lambda: 1.0)
    for issuer in ISSUERS:
        telemetry.watch_issuer(issuer, lambda: 1.0)
    for pool in POOLS:
        telemetry.watch_pool(pool, slots=lambda: 8.0, waiting=lambda: 0.0)
    for one in plans():
        telemetry.in_flight(one).inc()
    asked = request()
    tenants = [None, *(f"team-{number}" for number in range(MAX_TENANTS + 20))]
    for tenant, decided, outcome in product(tenants, (None, *plans()), Outcome):
        if tenant is None and decided is not None:
            continue  # nobody's request is never planned
        exchange = telemetry.open({"headers": []})
        exchange.caller = None if tenant is None else caller(tenant=tenant)
        exchange.plan, exchange.outcome, exchange.status = decided, outcome, 200
        if decided is not None:
            exchange.request, exchange.attempts = asked, 1
            exchange.usage = Usage(prompt=9, cached=4, reasoning=BUDGET, answer=3)
            exchange.first_event_s = exchange.first_answer_s = exchange.last_write_s = 1.0
        telemetry.close(exchange)
    for limit, not_tried in zip(get_args(LimitName), cycle(get_args(NotTried)), strict=False):
        exchange = telemetry.open({"headers": []})
        exchange.limits = Refusal(limit, "tenant", 1.0, None, None)
        exchange.retries, exchange.faults = [*get_args(RetryReason)], [*get_args(FaultKind)]
        exchange.not_tried = not_tried
        telemetry.close(exchange)
    writer.close()
    return generate_latest(registry).decode()


def test_every_metric_is_documented_with_type_and_labels(crowded: str) -> None:
    """The contract's table has each metric of a gateway, and no other."""
    assert families(crowded) == contract.METRICS


def test_every_label_value_is_documented(crowded: str) -> None:
    """Each closed set is the one that the contract names: no value is missing, and none is made up."""
    for metric, label, seen in labels(crowded):
        wanted = contract.label_values(label, metric)
        if label == "issuer":
            wanted |= {*ISSUERS}
        elif label == "pool":
            wanted |= {*POOLS}
        elif label == "tenant":
            wanted |= {f"team-{number}" for number in range(MAX_TENANTS)}
        if metric != "gptoss_requests_total":
            wanted -= {NONE}  # of a request that was not understood nothing else is told
        assert seen == wanted, (metric, label)


def test_the_bound_on_series_is_the_documented_one(crowded: str) -> None:
    """Everything at once stays under the bound that the contract gives, which is not an idle one."""
    assert 0.95 * contract.MAX_SERIES < series(crowded) <= contract.MAX_SERIES


def families(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of each metric in Prometheus's text form, named as queries name it."""
    found = {}
    for family in text_string_to_metric_families(text):
        names = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        full = f"{family.name}_total" if family.type == "counter" else family.name
        found[full] = (family.type, names)
    return found


def labels(text: str) -> list[tuple[str, str, frozenset[str]]]:
    """Return metric, label and its values, for each label."""
    found: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(text):
        full = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le":
                    found.setdefault((full, label), set()).add(value)
    return [(metric, label, frozenset(values)) for (metric, label), values in found.items()]


def series(text: str) -> int:
    """Return the number of series in Prometheus's text form."""
    return sum(not line.startswith("#") for line in text.splitlines())
