"""What a load test does: who asks what, how often, and in which shape. One frozen document."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from cluster.core.effort import Effort
from cluster.settings.fields import Count, ModelName, Seconds, Section

Kind = Literal["chat", "responses", "tools"]
KINDS: tuple[Kind, ...] = ("chat", "responses", "tools")
Document = TypeVar("Document", bound=Section)
Share = Annotated[float, Field(ge=0)]


class PlanError(Exception):
    """The plan or the objectives cannot be read; the message names every mistake by its place in the file."""


class Lengths(Section):
    """Lengths in tokens: log-normal, as people's prompts are."""

    median: Count
    """Half of them are shorter."""
    p95: Count
    """One in twenty is longer; equal to ``median``: all are that long."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95 < self.median:
            raise ValueError(f"p95 ({self.p95}) is below median ({self.median})")
        return self


class Mix(Section):
    """Shares of the kinds of user; they need not add up to 1."""

    chat: Share = 0.7
    """Chat completions."""
    responses: Share = 0.2
    """The Responses API."""
    tools: Share = 0.1
    """Chat with a function that the model may call; its result is sent back as the next turn."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not sum(self.model_dump().values()):
            raise ValueError("every share is 0: nobody would ask anything")
        return self


class Conversation(Section):
    """What a conversation is like."""

    min_turns: Count = 1
    """Fewest questions in one."""
    max_turns: Count = 3
    """Most; lengths are even between the two. Each turn sends all that was said before."""
    shared_prefix_tokens: Annotated[int, Field(ge=0)] = 200
    """Length of the system prompt, which other conversations have too: it can be served from a prefix cache.
    0: none."""
    shared_prefixes: Count = 4
    """Number of different system prompts, as of applications that share the cluster."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_turns < self.min_turns:
            raise ValueError(f"max_turns ({self.max_turns}) is below min_turns ({self.min_turns})")
        return self


class Pace(Section):
    """How long a user waits before the next question."""

    kind: Literal["think", "open"] = "think"
    """``think``: a closed loop; a user reads the answer, pauses, and asks again. ``open``: each user asks at
    random times (a Poisson process) whatever becomes of earlier questions, so that a slow system is not
    spared; every question is a conversation of its own."""
    mean_s: Seconds = 5.0
    """Mean pause in seconds, exponentially distributed; with ``open`` the mean time between questions."""


class Steady(Section):
    """The same number of users all the time."""

    kind: Literal["steady"] = "steady"
    """The shape's name."""
    users: Count = 10
    """Users all the time."""
    seconds: Seconds = 60.0
    """Length in seconds."""


class Ramp(Section):
    """From few users to many, evenly."""

    kind: Literal["ramp"]
    """The shape's name."""
    first: Count = 1
    """Users at the start."""
    last: Count = 50
    """Users at the end."""
    seconds: Seconds = 300.0
    """Length in seconds."""


class Spike(Section):
    """A short burst in the middle of a steady load: what follows should be as good as what came before."""

    kind: Literal["spike"]
    """The shape's name."""
    users: Count = 10
    """Users outside the spike."""
    peak: Count = 50
    """Users in it."""
    before_s: Seconds = 60.0
    """Seconds before it."""
    spike_s: Seconds = 15.0
    """Its length in seconds."""
    after_s: Seconds = 60.0
    """Seconds after it."""


class Step(Section):
    """From a load that fits to an overload, and back: refusals should be quick, and what runs, run well."""

    kind: Literal["step"]
    """The shape's name."""
    users: Count = 10
    """Users of a load that fits."""
    times: Annotated[float, Field(gt=1)] = 5.0
    """The overload in multiples of it."""
    before_s: Seconds = 60.0
    """Seconds before it."""
    overload_s: Seconds = 120.0
    """Its length in seconds."""
    after_s: Seconds = 60.0
    """Seconds after it."""


class Knee(Section):
    """Raise the load until an objective breaks, then narrow down the highest load that holds them all."""

    kind: Literal["knee"]
    """The shape's name."""
    first: Count = 4
    """Users of the first level."""
    factor: Annotated[float, Field(gt=1)] = 2.0
    """Each level has so many times the users of the one before, until one breaks."""
    within: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The search ends when the lowest load that broke is at most this share above the highest that held."""
    most: Count = 2000
    """Most users that are tried."""
    settle_s: Seconds = 15.0
    """Seconds of each level that do not count, until users and queues have settled."""
    seconds: Seconds = 60.0
    """Seconds of each level that do."""
    least: Count = 20
    """Requests of each effort that a level needs; it is prolonged up to threefold to get them."""


SHAPES = (Steady, Ramp, Spike, Step, Knee)
Shape = Annotated[Steady | Ramp | Spike | Step | Knee, Field(discriminator="kind")]


class Plan(Section):
    """A whole load test."""

    model: ModelName = "gpt-oss-120b"
    """Model or alias that is asked."""
    users: Mix = Mix()
    """Who asks."""
    efforts: dict[Effort, Share] = Field(default={"low": 0.6, "medium": 0.3, "high": 0.1}, min_length=1)
    """Shares of the efforts, by conversation."""
    prompt_tokens: dict[Effort, Lengths] = Field(
        default={
            "low": Lengths(median=60, p95=400),
            "medium": Lengths(median=120, p95=1000),
            "high": Lengths(median=200, p95=2000),
        }
    )
    """Lengths of one question by effort, in common English words, each of which is about one token."""
    max_output_tokens: Count | None = None
    """Longest output, reasoning included; None: the gateway's own limit."""
    conversation: Conversation = Conversation()
    """What a conversation is like."""
    pace: Pace = Pace()
    """How long a user waits before the next question."""
    patience_s: dict[Effort, Seconds] = Field(default={"low": 30.0, "medium": 60.0, "high": 300.0})
    """Longest wait for the first sign of an answer; whoever has waited so long leaves: an error."""
    honour_retry_after: bool = True
    """Whether a user who was refused waits as long as ``retry-after`` says, as OpenAI's SDK does."""
    seed: int = 1
    """The same seed asks the same questions."""
    warm_up_s: Annotated[float, Field(ge=0)] = 0.0
    """Requests sent in the first seconds are recorded and do not count."""
    drain_s: Seconds = 30.0
    """Seconds that requests under way have at the end, or where a shape takes users away."""
    ca_file: Path | None = None
    """Certificates of the authorities that sign the target's; None: the machine's own."""
    shape: Shape = Steady()
    """How the number of users changes."""

    @model_validator(mode="before")
    @classmethod
    def _steady_by_default(cls, content: Any) -> Any:
        shape = content.get("shape") if isinstance(content, dict) else None
        if isinstance(shape, dict) and "kind" not in shape:
            return {**content, "shape": {"kind": "steady", **shape}}
        return content

    @model_validator(mode="after")
    def _complete(self) -> Self:
        asked = [effort for effort, share in self.efforts.items() if share]
        if not asked:
            raise ValueError("efforts: every share is 0")
        for field in ("prompt_tokens", "patience_s"):
            if missing := set(asked) - set(getattr(self, field)):
                raise ValueError(f"{field}: {', '.join(sorted(missing))} missing, which efforts ask for")
        return self


def load(path: Path | None, changes: Sequence[str] = ()) -> Plan:
    """Read a plan; None: the defaults. ``changes`` are ``place.in.it=value``. Raises `PlanError`."""
    origin = "the default plan" if path is None else str(path)
    read = check(Plan, {} if path is None else document(path), origin)
    return check(Plan, changed(read.model_dump(mode="json"), changes), origin) if changes else read


def document(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping. Raises `PlanError`."""
    try:
        read = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise PlanError(f"{path}: {error}") from error
    if not isinstance(read, dict):
        raise PlanError(f"{path}: it must hold a mapping, not a {type(read).__name__}")
    return read


def changed(content: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return ``content`` with values replaced by the ``place.in.it=value`` given. Raises `PlanError`."""
    for change in changes:
        place, equals, value = change.partition("=")
        if not equals or not place:
            raise PlanError(f"--set {change}: it must read place=value, as in shape.seconds=30")
        content = _with(content, place.split("."), yaml.safe_load(value))
    return content


def _with(content: Any, place: list[str], value: Any) -> dict[str, Any]:
    """Return a copy with one value replaced; a shape of another kind begins empty."""
    name, *rest = place
    kept = dict(content) if isinstance(content, dict) else {}
    if name == "kind" and kept.get("kind") not in (None, value):
        kept = {}
    return {**kept, name: _with(kept.get(name), rest, value) if rest else value}


def check(kind: type[Document], content: dict[str, Any], origin: str) -> Document:
    """Return the validated document. Raises `PlanError` that names every mistake."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'all of it'}: {one['msg']}" for one in error.errors()]
        raise PlanError(f"{origin}: " + "; ".join(wrong)) from error
