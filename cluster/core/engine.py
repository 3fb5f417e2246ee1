"""What a replica tells the gateway beside OpenAI's own fields, and what the gateway strips again.

Both the real replica (a middleware around vLLM) and the simulated engine write these; only the gateway reads
them. They never reach a client.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

REPLICA_HEADER = "x-engine-replica"
LOAD_HEADER = "x-engine-load"
REQUEST_ID_HEADER = "x-request-id"
PRIORITY_HEADER = "x-vllm-priority"

USAGE_COMMENT_EVERY_S = 2.0
"""While a stream generates, a usage comment is due at least this often, hidden reasoning included."""

USAGE_PREFIX = b": usage "


class EngineLoad(NamedTuple):
    """A replica's load at the moment it answered."""

    running: int
    waiting: int
    kv_use: float
    """Share of the KV cache in use, 0 to 1."""
    slots: int
    """Requests the engine runs at once (``max_num_seqs``)."""


@dataclass(frozen=True, slots=True)
class StreamUsage:
    """Tokens of one stream so far."""

    prompt: int
    reasoning: int
    answer: int
    load: EngineLoad | None = field(default=None, compare=False)
    """The replica's load at that moment, as far as it was told."""


def render_load(load: EngineLoad) -> str:
    """Return the value of ``x-engine-load``."""
    return f"r={load.running};w={load.waiting};k={load.kv_use:.3f};s={load.slots}"


def parse_load(value: str) -> EngineLoad | None:
    """Read a value of ``x-engine-load``; None when it is malformed."""
    fields = dict(part.partition("=")[::2] for part in value.split(";"))
    try:
        return EngineLoad(int(fields["r"]), int(fields["w"]), float(fields["k"]), int(fields["s"]))
    except (KeyError, ValueError):
        return None


def render_usage(usage: StreamUsage, load: EngineLoad | None = None) -> bytes:
    """Return the SSE comment, with its blank line, that tells a running stream's tokens and the ``load``."""
    told = b"" if load is None else b" l=" + render_load(load).encode()
    return b": usage p=%d r=%d a=%d%b\n\n" % (usage.prompt, usage.reasoning, usage.answer, told)


def parse_usage(event: bytes) -> StreamUsage | None:
    """Read a usage comment; None when ``event`` is another comment or malformed."""
    if not event.startswith(USAGE_PREFIX):
        return None
    fields = dict(part.partition(b"=")[::2] for part in event[len(USAGE_PREFIX) :].split())
    try:
        load = parse_load(fields.get(b"l", b"").decode("latin-1"))
        return StreamUsage(int(fields[b"p"]), int(fields[b"r"]), int(fields[b"a"]), load)
    except (KeyError, ValueError):
        return None
