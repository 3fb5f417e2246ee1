"""What the gateway says to an engine: a new body of known fields, and headers that are all its own.

Nothing of a client's passes that is not in `ParsedRequest.fields`; no client header passes at all, because
several steer Serve or vLLM.
"""

from typing import Any

import orjson

from cluster.core.engine import PRIORITY_HEADER, REQUEST_ID_HEADER
from cluster.core.hint import HEADER as HINT_HEADER
from cluster.core.hint import RouteHint, render
from cluster.core.prefix import conversation_key, prefix_key
from cluster.core.request import Endpoint, ParsedRequest
from cluster.gateway.plan import Plan

PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
"""Path of each endpoint, at the gateway and below a pool's prefix alike."""


def engine_body(request: ParsedRequest, plan: Plan, *, salt: str) -> bytes:
    """Return the JSON body for the engine."""
    body: dict[str, Any] = {
        **request.fields,
        "model": plan.model,
        "stream": request.stream,
        "include_reasoning": plan.see_reasoning,
        "cache_salt": salt,
        "store": False,
    }
    if plan.max_reasoning_tokens is not None:
        body["thinking_token_budget"] = plan.max_reasoning_tokens
    if request.endpoint == "chat":
        body |= _chat_fields(plan, stream=request.stream)
    else:
        body["max_output_tokens"] = plan.max_output_tokens
        body["reasoning"] = {"effort": plan.choice.level}
    return orjson.dumps(body)


def _chat_fields(plan: Plan, *, stream: bool) -> dict[str, Any]:
    fields = {"max_completion_tokens": plan.max_output_tokens, "reasoning_effort": plan.choice.level}
    return {**fields, "stream_options": {"include_usage": True}} if stream else fields


def route_hint(
    request: ParsedRequest, plan: Plan, *, salt: str, queued_tokens: int, attempt: int, avoid: str
) -> str:
    """Return the value of ``x-route-hint`` for one attempt; ``salt`` is that of the tenant's prefix cache.

    ``queued_tokens`` are the expected tokens that wait here for the pool.
    """
    level, secret = plan.choice.level, salt.encode()
    return render(
        RouteHint(
            effort=level,
            expected_output_tokens=plan.expected_output_tokens * request.choices,
            prompt_tokens=request.prompt_tokens,
            prefix=prefix_key(secret, plan.model, level, request.prefix_text),
            conversation=conversation_key(secret, request.cache_key),
            deadline_ms=plan.deadline_ms,
            queued_tokens=queued_tokens,
            attempt=attempt,
            avoid=avoid,
        )
    )


def engine_headers(*, request_id: str, attempt: int, priority_ms: int, hint: str) -> dict[str, str]:
    """Return the headers of one attempt, less the engine key."""
    return {
        "content-type": "application/json",
        REQUEST_ID_HEADER: f"{request_id}-{attempt}",
        PRIORITY_HEADER: str(priority_ms),
        HINT_HEADER: hint,
    }
