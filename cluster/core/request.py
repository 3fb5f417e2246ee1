"""A client's request after parsing, and the error of one that is wrong.

The client's JSON is parsed once. What goes to the engine is a new body of known fields, never the client's
own: ``fields`` holds exactly the fields of the request that the engine may see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Endpoint = Literal["chat", "responses"]


class InvalidRequest(Exception):  # noqa: N818  the word that OpenAI uses
    """The request is wrong, and the client can mend it.

    ``status`` is 400, 404, 413 or 415; ``message``, ``param`` and ``code`` are OpenAI's error fields.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """One valid request for a completion."""

    endpoint: Endpoint
    model: str
    """The name that the client used: a model or an alias."""
    effort_asked: str | None
    stream: bool
    include_usage: bool
    """Whether a streaming chat client asked for the usage chunk; always True for Responses."""
    max_output_tokens: int | None
    """The client's limit on output tokens, reasoning included; None when it named none."""
    choices: int
    """``n``: completions asked for, 1 for Responses."""
    prompt_tokens: int
    """Estimate of the prompt's tokens, from its bytes; never above the body's size in bytes."""
    tool_names: frozenset[str]
    prefix_text: bytes
    """What the prompts of one application share, for prefix affinity: tools and developer text."""
    cache_key: str
    """``prompt_cache_key``; empty when there is none."""
    fields: Mapping[str, Any]
    """The fields that the engine may see, as the client sent them."""
    ignored: tuple[str, ...] = ()
    """Accepted fields that have no effect here, for ``x-ignored-params``."""
