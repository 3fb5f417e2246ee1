"""Settings of Ray Serve's side: pools, replicas, the simulated engine."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cluster.core import scaling
from cluster.core.effort import Effort
from cluster.core.routing import DEFAULT_POLICY
from cluster.settings.fields import Count, GptOss, PoolName, Seconds, Section

Weight = Annotated[float, Field(ge=0, le=100)]


class Replicas(Section):
    """How many replicas, each with a GPU of its own, a pool may have."""

    min: Count = 1
    """Fewest replicas kept ready."""
    max: Count = 1
    """Most replicas that the pool may grow to under load; at ``min`` their number is fixed."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class SimulatedEngine(Section):
    """The simulated engine's behaviour: vLLM's wire format without a model."""

    ttft_ms: Annotated[float, Field(ge=0)] = 30
    """Milliseconds from a free slot to the first token."""
    inter_token_ms: Annotated[float, Field(ge=0)] = 5
    """Milliseconds between tokens when one request runs."""
    inter_token_per_request_ms: Annotated[float, Field(ge=0)] = 0.2
    """Milliseconds added to that for every further running request."""
    slots: Count = 16
    """Requests that run at once; more wait in the engine's queue."""
    max_waiting: Annotated[int, Field(ge=0)] = 1024
    """Longest queue; beyond it the engine answers 503."""
    reasoning_tokens: dict[Effort, Count] = Field(default={"low": 15, "medium": 45, "high": 120})
    """Length of the chain of thought by effort."""
    answer_tokens: Count = 24
    """Length of the answer."""
    faults: bool = False
    """Whether words in a prompt may order faults (`cluster.serving.sim.faults`): for tests alone."""


class RoutingSettings(Section):
    """How a pool's routers choose a replica: the weights of scores that each lie in [0, 1].

    Changing them restarts the pool's replicas.
    """

    batch: Weight = DEFAULT_POLICY.batch
    """Weight of a small batch, which keeps the time between tokens short: half of it lies between an empty
    replica and one whose slots are all taken."""
    room: Weight = DEFAULT_POLICY.room
    """Weight of a free slot, where the request starts at once."""
    tokens: Weight = DEFAULT_POLICY.tokens
    """Weight of few output tokens still expected of the requests there."""
    lanes: Weight = DEFAULT_POLICY.lanes
    """Weight of the effort's lane; 0 turns lanes off."""
    prefix: Weight = DEFAULT_POLICY.prefix
    """Weight of the replica that has seen the conversation or the prompt's beginning before."""
    freshness: Weight = DEFAULT_POLICY.freshness
    """Weight of a report younger than a second."""
    lane_pressure: Annotated[float, Field(ge=1, le=10)] = DEFAULT_POLICY.lane_pressure
    """Demand in tokens that a replica of the high lane takes for each unit that one of the low lane takes;
    more makes low effort faster, medium and high effort slower."""
    lane_fill: Annotated[float, Field(gt=0, le=1)] = DEFAULT_POLICY.lane_fill
    """Share of the high lane's slots in use from which on the lane is made larger, whatever the pressure."""
    stale_after_s: Seconds = DEFAULT_POLICY.stale_after_s
    """Age in seconds at which a replica's report counts no more; it gets nothing then while others report."""


class ScalingSettings(Section):
    """When a pool gets more or fewer replicas, between ``replicas.min`` and ``replicas.max``.

    Changing them restarts the pool's replicas; changing ``replicas`` does not.
    """

    slot_tokens: Annotated[float, Field(ge=16)] = scaling.DEFAULT_POLICY.slot_tokens
    """Output tokens that one slot of the engine generates in the time that a replica takes to start: work
    that is expected to be done by then starts none."""
    slot_use: Annotated[float, Field(ge=0.1, le=1)] = scaling.DEFAULT_POLICY.slot_use
    """Share of the slots that may be taken before replicas are added."""
    low_wait_s: Seconds = scaling.DEFAULT_POLICY.low_wait_s
    """Seconds that a low-effort request may wait for its first token in an engine before some are added."""
    down_after_s: Seconds = scaling.DEFAULT_POLICY.down_after_s
    """Seconds for which fewer replicas must have been enough before any is stopped."""


class PoolSettings(Section):
    """One model on one GPU profile: one Serve application, one set of engine flags."""

    model: GptOss
    """The model served."""
    profile: str
    """Name of a GPU profile; ``gpt-oss-cluster profiles`` lists them."""
    worker_group: Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")] | None = None
    """Group of nodes that the replicas belong on: those that have Ray's resource ``worker_group:<name>``, as
    the Helm chart gives it to its worker groups; None: any node with the profile's GPU."""
    replicas: Replicas = Replicas()
    """How many replicas the pool may have."""
    max_model_len: Count | None = None
    """Longest prompt plus output in tokens; None: the profile's."""
    max_num_seqs: Count | None = None
    """Largest batch of the engine; None: the profile's."""
    routing: RoutingSettings = RoutingSettings()
    """How requests are spread over the replicas."""
    scaling: ScalingSettings = ScalingSettings()
    """When replicas are added and stopped."""
    engine: Literal["vllm", "sim"] = "vllm"
    """The engine: vLLM, or the simulated one for tests and demos."""
    sim: SimulatedEngine = SimulatedEngine()
    """Behaviour of the simulated engine; unused with vLLM."""


class ServingSettings(Section):
    """The Ray Serve side."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+$")] = "http://127.0.0.1:8000"
    """Base URL of Serve's HAProxy, without a path."""
    engine_key_file: Path
    """File with the key that every replica demands on every request; only the gateway knows it."""
    vocabulary_dir: Path | None = None
    """Folder that holds ``o200k_base.tiktoken`` on every replica; None: the one that the environment variable
    ``TIKTOKEN_ENCODINGS_BASE`` names there."""
    pools: dict[PoolName, PoolSettings] = Field(min_length=1)
    """Pools by name; the name is also the Serve application and its route prefix."""
