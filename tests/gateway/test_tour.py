"""What a real gateway tells on a tour of all that can happen to it: what the contract says, and no secret."""

import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway import contract_document as contract
from tests.gateway.test_series import families, labels, series
from tests.gateway.tour import TENANTS, Told, toured
from tests.redis_servers import require_redis

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """Return what a gateway told."""
    require_redis()
    async with toured(tmp_path_factory.mktemp("tour")) as found:
        yield found


async def test_every_outcome_was_met(told: Told) -> None:
    """The tour goes everywhere, and the gateway survives it."""
    assert {line["outcome"] for line in told.lines("usage")} == contract.OUTCOMES
    assert told.exit_status == 0


async def test_no_canary_is_told(told: Told) -> None:
    """No secret, prompt, answer or thought is in any log, on either output, or in the metrics."""
    assert len(told.canaries) > 1000
    assert told.canaries.told(told.out) == []
    assert told.canaries.told(told.err) == []
    assert told.canaries.told(told.metrics) == []


async def test_the_metrics_are_the_documented_ones(told: Told) -> None:
    """Nothing is exposed that the contract does not name, and nothing is named that does not exist."""
    found = families(told.metrics)
    assert frozenset(name for name in found if name.startswith("process_")) == contract.PROCESS
    assert {name: told for name, told in found.items() if name not in contract.PROCESS} == contract.METRICS


async def test_every_label_is_from_a_closed_set(told: Told) -> None:
    """Whatever clients and engines said, no label has a value of theirs."""
    pools = frozenset({"big", "big-b", "small"})
    own = {"tenant": frozenset(TENANTS), "issuer": frozenset({"corp"}), "pool": pools}
    for metric, label, seen in labels(told.metrics):
        assert seen <= contract.label_values(label, metric) | own.get(label, frozenset()), (metric, label)
    assert series(told.metrics) < contract.MAX_SERIES


async def test_every_request_has_one_usage_line(told: Told) -> None:
    """With the documented keys, all of them and no others."""
    usage = told.lines("usage")
    assert {frozenset(line) - {"log"} for line in usage} == {contract.USAGE}
    assert {frozenset(line["tokens"]) for line in usage} == {
        contract.label_values("kind", "gptoss_tokens_total")
    }
    assert len({line["request_id"] for line in usage}) == len(usage) == told.sent
    assert sum(line["outcome"] == "completed" for line in usage) > 20


async def test_every_refused_caller_has_an_audit_line(told: Told) -> None:
    """Who was refused, from where, and what changed: with the documented keys."""
    audit, usage = told.lines("audit"), told.lines("usage")
    assert {line["act"] for line in audit} == contract.AUDIT.keys()
    for line in audit:
        assert frozenset(line) - {"log"} == contract.AUDIT[line["act"]]
    refused = {line["request_id"]: line["result"] for line in audit if line["act"] == "request"}
    refusals = ("unauthenticated", "forbidden")
    assert refused == {one["request_id"]: one["outcome"] for one in usage if one["outcome"] in refusals}
    assert {"127.0.0.1", "203.0.113.7"} == {line["address"] for line in audit if line["act"] == "request"}
    assert {line["entry"].partition(".")[0] for line in audit if "entry" in line} == {"key", "tenant"}


async def test_every_header_of_an_answer_is_documented(told: Told) -> None:
    """Both ways: no header that is not named, and none named that is never sent."""
    assert told.headers == contract.HEADERS | contract.COMMON_HEADERS


async def test_every_line_is_of_a_documented_kind(told: Told) -> None:
    """Standard output has the documented lines only; standard error has nothing."""
    kinds = set(re.findall(r"^\*\*`(\w+)`\*\*:", contract.section("Logs"), re.MULTILINE))
    assert {json.loads(line)["log"] for line in told.out.splitlines()} == {"usage", "audit", "log"} < kinds
    for line in told.lines("log"):
        assert {"log", "ts", "level", "logger", "message"} <= line.keys() <= {*contract.LOG, "log"}
    assert told.err == ""
