"""Settings of models as clients name them: limits and objectives by effort, and aliases."""

from typing import Annotated

from pydantic import Field

from cluster.core.effort import MIN_REASONING_TOKENS, Effort
from cluster.core.objectives import Objectives
from cluster.settings.fields import Count, GptOss, PoolName, Seconds, Section


class Slo(Section):
    """What users of one effort may expect."""

    wait_s: Seconds
    """Seconds until the first token."""
    inter_token_ms: Seconds | None = None
    """Milliseconds between tokens; None: no objective."""
    total_s: Seconds | None = None
    """Seconds for the whole answer; None: no objective."""

    @property
    def objectives(self) -> Objectives:
        """The same, in seconds, for the decision whether a request kept them."""
        inter_token_s = None if self.inter_token_ms is None else self.inter_token_ms / 1000
        return Objectives(self.wait_s, inter_token_s, self.total_s)


class EffortSettings(Section):
    """Limits and objectives of one effort on one model."""

    max_output_tokens: Count
    """Most output tokens, reasoning included; a client's larger limit is lowered to it."""
    max_reasoning_tokens: Annotated[int, Field(ge=MIN_REASONING_TOKENS)] | None = None
    """Hard cap on the tokens of one chain of thought (at least 16: below that gpt-oss with tools loops);
    None: no cap. A tenant's, a key's or a request's own cap may be tighter, never wider."""
    expected_output_tokens: Count
    """Prior for the mean output, reasoning included, until the gateway has learned it."""
    slo: Slo
    """What users may expect."""
    deadline_s: Seconds | None = None
    """Longest wait for a place in an engine, in seconds: a request that still waits then is refused, and all
    queues serve first what has the earliest deadline. The service tier shifts it: see ``tiers``. None: ten
    times ``slo.wait_s``."""

    @property
    def patience_s(self) -> float:
        """Seconds from a request's arrival to its deadline."""
        return 10 * self.slo.wait_s if self.deadline_s is None else self.deadline_s


class Efforts(Section):
    """Settings by effort. The priors stand in about the proportion 1 : 4 : 20 until lengths are learned."""

    low: EffortSettings = EffortSettings(
        max_output_tokens=8192, expected_output_tokens=400, slo=Slo(wait_s=1), deadline_s=10
    )
    """Low effort."""
    medium: EffortSettings = EffortSettings(
        max_output_tokens=16384, expected_output_tokens=1500, slo=Slo(wait_s=5), deadline_s=30
    )
    """Medium effort."""
    high: EffortSettings = EffortSettings(
        max_output_tokens=65536, expected_output_tokens=8000, slo=Slo(wait_s=30), deadline_s=300
    )
    """High effort."""

    def __getitem__(self, effort: Effort) -> EffortSettings:
        return {"low": self.low, "medium": self.medium, "high": self.high}[effort]


class ModelSettings(Section):
    """One model as clients name it."""

    pools: tuple[PoolName, ...] = Field(min_length=1)
    """Pools that serve the model."""
    source: str
    """Checkpoint directory on every replica."""
    default_effort: Effort = "medium"
    """Effort when a request names none."""
    efforts: Efforts = Efforts()
    """Limits and objectives by effort."""


class TierSettings(Section):
    """How service tiers shift deadlines.

    All queues serve the earliest first, so a shift is also the longest time by which a request can have come
    later and still overtake one of another tier.
    """

    flex_later_s: Seconds = 60
    """Seconds by which a ``flex`` request is due later, and so may wait longer, than its effort says."""
    priority_earlier_s: Seconds = 5
    """Seconds by which a ``priority`` request goes before what is due when it is; it may wait as long."""


class Alias(Section):
    """A model name that stands for another model at each effort."""

    low: GptOss
    """Model at low effort."""
    medium: GptOss
    """Model at medium effort."""
    high: GptOss
    """Model at high effort."""

    def __getitem__(self, effort: Effort) -> GptOss:
        return {"low": self.low, "medium": self.medium, "high": self.high}[effort]
