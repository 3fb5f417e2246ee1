"""What a request will run as: its level of effort, its model, its token limits and its deadline. Pure."""

from math import ceil
from typing import NamedTuple, cast

from cluster.core.cost import CostModel
from cluster.core.effort import EFFORTS, EffortChoice, choose, tightest
from cluster.core.invalid import InvalidRequest, shown
from cluster.core.limits import Limits, ceiling
from cluster.core.request import ParsedRequest
from cluster.core.tier import Tier
from cluster.core.tier import choose as choose_tier
from cluster.gateway.http_errors import BadRequest, NotAllowed
from cluster.gateway.ports import Caller
from cluster.settings import GptOss, ModelSettings, Settings, TierSettings


class Plan(NamedTuple):
    """A request after policy."""

    choice: EffortChoice
    model: GptOss
    pools: tuple[str, ...]
    """Pools that serve the model, in the order to try them."""
    max_output_tokens: int
    """Limit on output tokens of one choice, reasoning included."""
    max_reasoning_tokens: int | None
    """Cap on the tokens of one chain of thought: tightest of the effort's, the caller's and the request's."""
    expected_output_tokens: int
    """Mean output of one choice, as far as was learned, never above its limit."""
    reserved_tokens: int
    """Prompt estimate, and output that all choices will hardly exceed."""
    tier: Tier
    """What yields to what; the answer tells it as its ``service_tier``."""
    deadline_ms: int
    """Epoch milliseconds by which the first token is due: what waits for longer is late."""
    priority_ms: int
    """What all queues are ordered by, lowest first: the deadline, or before it by right of the tier."""
    limits: tuple[Limits, ...]
    """The tenant's limits and the key's own, with the day's budget of this effort."""
    see_reasoning: bool


def cost_model(settings: Settings) -> CostModel:
    """Return what answers are expected to cost as long as none was seen."""
    return CostModel(
        {
            (name, effort): model.efforts[effort].expected_output_tokens
            for name, model in settings.models.items()
            for effort in EFFORTS
        }
    )


def plan(
    settings: Settings, costs: CostModel, caller: Caller, request: ParsedRequest, *, now_epoch_s: float
) -> Plan:
    """Decide what ``request`` runs as. Raises `InvalidRequest` (404: no such model) and `NotAllowed`."""
    _allow(settings, caller, request)
    choice = _effort(settings, caller, request)
    alias = settings.aliases.get(request.model)
    model: GptOss = alias[choice.level] if alias else cast(GptOss, request.model)
    efforts = settings.models[model].efforts[choice.level]
    limit = min(request.max_output_tokens or efforts.max_output_tokens, efforts.max_output_tokens)
    expected = costs.estimate(model, choice.level, caller.tenant)
    budget = tightest(efforts.max_reasoning_tokens, caller.max_reasoning_tokens, request.max_reasoning_tokens)
    reasoning = expected.reasoning if budget is None else min(expected.reasoning, budget)
    limits = tuple([level.by_effort[choice.level] for level in caller.limits])
    tier = choose_tier(request.tier_asked, own=caller.tier)
    deadline_ms, priority_ms = _due(settings.tiers, tier, now_epoch_s + efforts.patience_s)
    return Plan(
        choice=choice,
        model=model,
        pools=settings.models[model].pools,
        max_output_tokens=limit,
        max_reasoning_tokens=budget,
        expected_output_tokens=min(limit, round(reasoning + expected.answer)),
        reserved_tokens=_reserved(
            request,
            limits,
            likely=min(limit, ceil(expected.p95)),
            prior=min(limit, efforts.expected_output_tokens),
        ),
        tier=tier,
        deadline_ms=deadline_ms,
        priority_ms=priority_ms,
        limits=limits,
        see_reasoning=caller.see_reasoning,
    )


def _due(shifts: TierSettings, tier: Tier, latest_s: float) -> tuple[int, int]:
    """Return deadline and priority of what may wait until ``latest_s``, in seconds of the epoch."""
    deadline_ms = int(latest_s * 1000)
    if tier == "flex":
        deadline_ms += int(shifts.flex_later_s * 1000)
    earlier_ms = int(shifts.priority_earlier_s * 1000) if tier == "priority" else 0
    return deadline_ms, deadline_ms - earlier_ms


def unknown_model(name: str) -> InvalidRequest:
    """Return the 404 for a model that is not there, in OpenAI's words."""
    return InvalidRequest(
        f"The model `{shown(name)}` does not exist or you do not have access to it.",
        code="model_not_found",
        status=404,
    )


def _reserved(request: ParsedRequest, limits: tuple[Limits, ...], *, likely: int, prior: int) -> int:
    """Return the tokens to reserve: the prompt's, and of each choice what it will ``likely`` not exceed.

    What was learned takes no more than half of what a limit can hold, or a caller with long answers and small
    limits would wait for full ones with each request, or be refused for ever. What the settings expect, the
    ``prior``, is taken whole.
    """
    wanted = request.prompt_tokens + likely * request.choices
    promised = request.prompt_tokens + prior * request.choices
    return min(wanted, max(promised, ceiling(limits) // 2))


def _allow(settings: Settings, caller: Caller, request: ParsedRequest) -> None:
    if request.model not in settings.models and request.model not in settings.aliases:
        raise unknown_model(request.model)
    if caller.models is not None and request.model not in caller.models:
        raise NotAllowed(f"Your key may not use the model `{request.model}`. Ask your administrator for it.")
    if caller.endpoints is not None and request.endpoint not in caller.endpoints:
        raise NotAllowed(f"Your key may not call this endpoint ({request.endpoint}). Ask your administrator.")


def _effort(settings: Settings, caller: Caller, request: ParsedRequest) -> EffortChoice:
    # an alias has no default of its own: medium names the model whose default counts, after the tenant's
    alias = settings.aliases.get(request.model)
    name = alias.medium if alias else cast(GptOss, request.model)
    model: ModelSettings = settings.models[name]
    try:
        default = caller.default_effort or model.default_effort
        return choose(request.effort_asked, default=default, cap=caller.max_effort)
    except ValueError as error:
        param = "reasoning_effort" if request.endpoint == "chat" else "reasoning.effort"
        raise BadRequest(str(error), param=param, code="invalid_value") from error
