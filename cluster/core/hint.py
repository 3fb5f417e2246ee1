"""``x-route-hint``: what the gateway tells the request router about a request, in one small header.

Serve hands the router a single header and never the body, so everything that routing needs travels here:
``v=1;e=low;o=400;i=120;p=<16 hex>;c=<16 hex>;d=<ms>;q=<tokens>;a=1;x=<replica>``.
"""

from typing import NamedTuple, cast

from cluster.core.effort import EFFORTS, Effort

HEADER = "x-route-hint"
MAX_BYTES = 256


class RouteHint(NamedTuple):
    """One request as the router sees it."""

    effort: Effort
    expected_output_tokens: int
    prompt_tokens: int
    prefix: str = ""
    """First 64 bits of the shared prompt prefix's hash, 16 hex digits; empty when there is none."""
    conversation: str = ""
    """The same for the conversation (``prompt_cache_key``)."""
    deadline_ms: int = 0
    """Epoch milliseconds by which the first token is due; 0 when there is no deadline."""
    queued_tokens: int = 0
    """Expected tokens that wait in the sending gateway."""
    attempt: int = 1
    avoid: str = ""
    """Replica that lost an earlier attempt of this request."""


def render(hint: RouteHint) -> str:
    """Return the header value, at most ``MAX_BYTES`` long; ``avoid`` is left out where it would not fit."""
    value = f"v=1;e={hint.effort};o={hint.expected_output_tokens};i={hint.prompt_tokens}"
    if hint.prefix:
        value += f";p={hint.prefix}"
    if hint.conversation:
        value += f";c={hint.conversation}"
    if hint.deadline_ms:
        value += f";d={hint.deadline_ms}"
    if hint.queued_tokens:
        value += f";q={hint.queued_tokens}"
    value += f";a={hint.attempt}"
    if not hint.avoid:
        return value
    with_avoid = f"{value};x={hint.avoid}"
    fits = len(with_avoid) <= MAX_BYTES and ";" not in hint.avoid
    return with_avoid if fits else value


def parse(value: str | None) -> RouteHint | None:
    """Read a header value; None (route by least load) when it is absent, too long or malformed.

    Unknown keys are ignored, so that a newer gateway can talk to an older router.
    """
    if not value or len(value) > MAX_BYTES:
        return None
    fields = dict(part.partition("=")[::2] for part in value.split(";"))
    if fields.get("v") != "1" or fields.get("e") not in EFFORTS:
        return None
    try:
        return RouteHint(
            effort=cast(Effort, fields["e"]),
            expected_output_tokens=_count(fields["o"]),
            prompt_tokens=_count(fields["i"]),
            prefix=fields.get("p", ""),
            conversation=fields.get("c", ""),
            deadline_ms=_count(fields.get("d", "0")),
            queued_tokens=_count(fields.get("q", "0")),
            attempt=_count(fields.get("a", "1")),
            avoid=fields.get("x", ""),
        )
    except (KeyError, ValueError):
        return None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"not a count: {text!r}")
    return int(text)
