"""What a request lets its answer be, and what of it its client may see."""

from typing import NamedTuple

from cluster.core.request import ParsedRequest
from cluster.core.tier import Tier
from cluster.gateway.plan import Plan


class Asked(NamedTuple):
    """What an answer is held to, whole or streamed."""

    see_reasoning: bool
    include_usage: bool
    """Whether a streaming chat client wants the usage; answers of other kinds always have it."""
    choices: int
    max_output_tokens: int
    """Limit on output tokens of one choice."""
    tools: frozenset[str]
    """Names of the tools that may be called."""
    tier: Tier = "default"
    """What the answer tells as its ``service_tier``."""


def asked(request: ParsedRequest, plan: Plan) -> Asked:
    """Return what ``request`` asks for under ``plan``."""
    return Asked(
        see_reasoning=plan.see_reasoning,
        include_usage=request.include_usage,
        choices=request.choices,
        max_output_tokens=plan.max_output_tokens,
        tools=request.callable_tools,
        tier=plan.tier,
    )
