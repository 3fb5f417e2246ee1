"""What a request runs as."""

from typing import Any

import orjson
import pytest

from cluster.core.cost import CostModel
from cluster.core.request import InvalidRequest, parse_request
from cluster.core.tier import Tier
from cluster.gateway.http_errors import NotAllowed
from cluster.gateway.plan import Plan, cost_model, plan
from cluster.settings import DailyTokens, RateLimits
from tests.gateway.conftest import caller, chat_body, settings


def planned(
    body: dict[str, Any] | None = None, *, who: dict[str, Any] | None = None, costs: CostModel | None = None
) -> Plan:
    """Return the plan of a chat request; without ``costs`` nothing was learned."""
    request = parse_request("chat", orjson.dumps(body or chat_body()), content_type="application/json")
    costs = costs or cost_model(settings())
    return plan(settings(), costs, caller(**(who or {})), request, now_epoch_s=1000.0)


def learned(output: int) -> CostModel:
    """Return costs after many answers of that length to the caller, at the default effort."""
    costs = cost_model(settings())
    for _ in range(500):
        costs.observe("gpt-oss-120b", "medium", "acme", reasoning=0, answer=output, cut=False)
    return costs


def parse_size(body: dict[str, Any]) -> int:
    """Return the estimate of a request's prompt."""
    return parse_request("chat", orjson.dumps(body), content_type="application/json").prompt_tokens


PROMPT = parse_size(chat_body())


def test_the_models_default_effort_counts() -> None:
    """A request that names no effort runs at the model's default."""
    got = planned()
    assert (got.choice.level, got.choice.reason, got.model, got.pools) == (
        "medium", "default", "gpt-oss-120b", ("big", "big-b"),
    )  # fmt: skip


@pytest.mark.parametrize(("asked", "limit"), [(None, 200), (50, 50), (5000, 200)])
def test_the_output_limit_is_the_lower_one(asked: int | None, limit: int) -> None:
    """The client's limit holds up to the effort's."""
    body = chat_body(**({"max_completion_tokens": asked} if asked else {}))
    assert planned(body).max_output_tokens == limit


@pytest.mark.parametrize(("changes", "output"), [({}, 80), ({"max_completion_tokens": 9}, 9), ({"n": 3}, 80)])
def test_the_expected_output_is_that_of_one_choice(changes: dict[str, Any], output: int) -> None:
    """The settings' prior to begin with, never above the limit."""
    assert planned(chat_body(**changes)).expected_output_tokens == output


@pytest.mark.parametrize(
    ("effort", "tenants", "requests", "budget"),
    [
        pytest.param("high", None, None, 64, id="the effort's"),
        pytest.param("high", 32, None, 32, id="the tenant's"),
        pytest.param("high", 32, 16, 16, id="the request's"),
        pytest.param("high", None, 5000, 64, id="a request is never wider than its effort"),
        pytest.param("high", 100, 5000, 64, id="nor is a tenant"),
        pytest.param("low", 32, 5000, 32, id="a request is never wider than its tenant"),
        pytest.param("low", None, 5000, 5000, id="without policy the request's own"),
        pytest.param("low", None, None, None, id="no cap at all"),
    ],
)
def test_the_tightest_reasoning_budget_holds(
    effort: str, tenants: int | None, requests: int | None, budget: int | None
) -> None:
    """Of the effort's, the caller's and the request's."""
    body = chat_body(reasoning_effort=effort, **({"thinking_token_budget": requests} if requests else {}))
    assert planned(body, who={"max_reasoning_tokens": tenants}).max_reasoning_tokens == budget


def test_a_budget_bounds_what_is_expected() -> None:
    """Of the reasoning, and of nothing else."""
    costs = cost_model(settings())
    for _ in range(500):
        costs.observe("gpt-oss-120b", "medium", "acme", reasoning=100, answer=20, cut=False)
    whole, cut = planned(costs=costs), planned(chat_body(thinking_token_budget=16), costs=costs)
    assert whole.expected_output_tokens == pytest.approx(120, rel=0.1)
    assert cut.expected_output_tokens == pytest.approx(36, rel=0.1)


def test_the_expected_output_is_learned() -> None:
    """For the caller's tenant, model and effort; of another tenant's it is the best guess so far."""
    costs = learned(20)
    assert planned(costs=costs).expected_output_tokens == pytest.approx(20, abs=4)
    assert planned(costs=costs, who={"tenant": "lab"}).expected_output_tokens == pytest.approx(20, abs=4)
    assert planned(chat_body(reasoning_effort="low"), costs=costs).expected_output_tokens == 40


@pytest.mark.parametrize(
    ("changes", "output"), [({}, 200), ({"max_completion_tokens": 9}, 9), ({"n": 3}, 600)]
)
def test_what_is_reserved(changes: dict[str, Any], output: int) -> None:
    """The prompt's estimate, and what every choice will hardly exceed, never above the limit."""
    prompt = parse_size(chat_body(**changes))
    assert planned(chat_body(**changes)).reserved_tokens == prompt + output
    few = min(output, 24 * changes.get("n", 1))
    assert planned(chat_body(**changes), costs=learned(20)).reserved_tokens == pytest.approx(
        prompt + few, rel=0.1
    )


@pytest.mark.parametrize("name", ["tokens_per_min", "tokens_per_day"])
@pytest.mark.parametrize(
    ("limit", "reserved"),
    [
        pytest.param(1000, PROMPT + 200, id="room for what is likely"),
        pytest.param(400, 200, id="half of a small limit at most"),
        pytest.param(100, PROMPT + 80, id="but what the settings expect"),
        pytest.param(1, PROMPT + 80, id="also where that can never fit"),
    ],
)
def test_what_was_learned_never_locks_a_caller_out(name: str, limit: int, reserved: int) -> None:
    """A tenant whose answers are long would else wait for its limit to be full, or be refused for ever."""
    own: dict[str, Any] = {name: limit if name == "tokens_per_min" else DailyTokens(medium=limit)}
    limits = (RateLimits(tokens_per_min=5000), RateLimits(**own))
    assert planned(who={"limits": limits}).reserved_tokens == reserved


@pytest.mark.parametrize(("effort", "wait_s"), [("low", 10), ("medium", 50), ("high", 300)])
def test_the_deadline_is_ten_times_the_objective_where_none_is_set(effort: str, wait_s: int) -> None:
    """In epoch milliseconds, so that earlier deadlines are the more urgent priorities."""
    assert planned(chat_body(reasoning_effort=effort)).deadline_ms == (1000 + wait_s) * 1000


@pytest.mark.parametrize(
    ("own", "asked", "tier", "due_s", "goes_s"),
    [
        pytest.param("default", None, "default", 50, 50, id="the effort's own"),
        pytest.param("default", "flex", "flex", 110, 110, id="flex yields"),
        pytest.param("priority", "auto", "priority", 50, 45, id="priority goes before and may wait as long"),
        pytest.param("default", "priority", "default", 50, 50, id="priority is a right"),
        pytest.param("priority", "default", "default", 50, 50, id="which need not be used"),
        pytest.param("flex", "priority", "flex", 110, 110, id="a tenant that yields always does"),
    ],
)
def test_the_tier_shifts_the_deadline(
    own: Tier, asked: str | None, tier: Tier, due_s: int, goes_s: int
) -> None:
    """By what the settings say; the request's own word counts downwards only."""
    body = chat_body(**({"service_tier": asked} if asked else {}))
    got = planned(body, who={"tier": own})
    assert got.tier == tier
    assert (got.deadline_ms, got.priority_ms) == ((1000 + due_s) * 1000, (1000 + goes_s) * 1000)


def test_an_alias_chooses_by_the_level_after_the_cap() -> None:
    """A cap to low sends the alias to its low model."""
    assert planned(chat_body(model="gpt-oss"), who={"max_effort": "low"}).model == "gpt-oss-20b"


def test_the_days_budget_is_the_efforts() -> None:
    """Budgets are kept apart by effort."""
    limits = RateLimits(tokens_per_day=DailyTokens(high=7))
    assert (
        planned(chat_body(reasoning_effort="high"), who={"limits": (limits,)}).limits[0].tokens_per_day == 7
    )
    assert planned(who={"limits": (limits,)}).limits[0].tokens_per_day is None


def test_an_unknown_model_is_404_even_for_a_narrow_key() -> None:
    """The name is repeated only in part, and made harmless."""
    with pytest.raises(InvalidRequest) as caught:
        planned(chat_body(model="x" * 999), who={"models": frozenset({"gpt-oss-20b"})})
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "who", [{"models": frozenset({"gpt-oss-20b"})}, {"endpoints": frozenset({"responses"})}]
)
def test_what_a_key_may_not_do_is_403(who: dict[str, Any]) -> None:
    """Scopes hold for models and endpoints."""
    with pytest.raises(NotAllowed):
        planned(who=who)
