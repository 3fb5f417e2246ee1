"""Response headers: OpenAI's own, and those that tell what was done with a request. Pure."""

from cluster.core.limits import LimitView
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_errors import Header


def response_headers(exchange: Exchange, *, now_s: float) -> list[Header]:
    """Return the headers that are known of ``exchange`` so far, success or failure."""
    headers = [
        (b"x-request-id", exchange.request_id.encode()),
        (b"openai-processing-ms", b"%d" % ((now_s - exchange.arrived_s) * 1000)),
    ]
    if exchange.client_request_id is not None:
        headers.append((b"x-client-request-id", exchange.client_request_id))
    if exchange.limits is not None:
        headers += _limit_headers(b"requests", exchange.limits.requests)
        headers += _limit_headers(b"tokens", exchange.limits.tokens)
    return [*headers, *_plan_headers(exchange), *exchange.extra_headers]


def go_duration(seconds: float) -> str:
    """Return seconds as OpenAI writes them, in Go's form: ``12ms``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    milliseconds = max(round(seconds * 1000), 0)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _limit_headers(kind: bytes, view: LimitView | None) -> list[Header]:
    if view is None:
        return []
    return [
        (b"x-ratelimit-limit-" + kind, b"%d" % view.limit),
        (b"x-ratelimit-remaining-" + kind, b"%d" % max(view.remaining, 0)),
        (b"x-ratelimit-reset-" + kind, go_duration(view.reset_s).encode()),
    ]


def _plan_headers(exchange: Exchange) -> list[Header]:
    plan, request = exchange.plan, exchange.request
    if plan is None or request is None:
        return []
    headers = [
        (b"x-effort", plan.choice.level.encode()),
        (b"x-effort-reason", plan.choice.reason.encode()),
    ]
    if plan.max_reasoning_tokens is not None:
        headers.append((b"x-reasoning-budget", b"%d" % plan.max_reasoning_tokens))
    if request.model != plan.model:
        headers.append((b"x-served-model", plan.model.encode()))
    if request.ignored:
        headers.append((b"x-ignored-params", ",".join(request.ignored).encode()))
    return headers
