"""Who calls: what a key store finds, and what the gateway asks for with every request."""

from dataclasses import dataclass

from cluster.core.effort import Effort
from cluster.core.request import Endpoint
from cluster.core.tier import Tier
from cluster.settings import RateLimits


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and what they may do."""

    tenant: str
    key_id: str
    models: frozenset[str] | None
    """Models and aliases that the key may use; None: all."""
    max_effort: Effort
    """Highest effort that the key may use."""
    see_reasoning: bool
    """Whether the caller may see the chain of thought."""
    limits: tuple[RateLimits, ...]
    """The tenant's limits, then the key's own where it has any."""
    endpoints: frozenset[Endpoint] | None = None
    """Endpoints that the key may call; None: all."""
    default_effort: Effort | None = None
    """Effort of requests that name none; None: the model's own."""
    max_reasoning_tokens: int | None = None
    """Cap on the tokens of one chain of thought, at any effort; None: only the effort's own."""
    tier: Tier = "default"
    """Highest service tier of its requests, and that of those that name none."""
