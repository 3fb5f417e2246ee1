"""How a request can fail, and what its client is told.

::

    RequestFailed                 has an outcome, and perhaps a status, code and wait of its own
    ├── BadRequest                invalid: the client can mend it
    ├── NotAuthenticated          unauthenticated
    ├── TooManyFailures           rate_limited: too many of those from one address
    ├── NotAllowed                forbidden: the key may not do this
    ├── LimitReached              rate_limited, or budget_spent
    ├── Overloaded                shed: no room now
    ├── DeadlineExceeded          deadline: longer than the longest request, or than it may wait
    ├── EngineFailed              upstream_failed before the first byte, upstream_broken after it
    │   └── HarmonyFault          harmony_fault: the model left its answer format
    ├── ClientGone                client_gone_waiting or client_gone_streaming: nobody is left to tell
    ├── ShutDown                  aborted_shutdown
    └── Internal                  internal: a fault of ours

`FORMS` is the one table from outcome to status, OpenAI's error type and code. The engine's own words never
reach a client.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import orjson

from cluster.core.accounting import Outcome
from cluster.core.limits import LimitName, Refusal
from cluster.core.request import InvalidRequest

MAX_RETRY_AFTER_S = 120
"""OpenAI's clients do not retry at all when told to wait longer."""

RetryReason = Literal[
    "connect", "reset", "proxy_error", "unavailable", "cut", "aborted", "engine_died", "harmony"
]
LOST_REPLICA: frozenset[RetryReason] = frozenset({"cut", "engine_died"})
"""Reasons that mean: a replica was lost while it worked on the request."""
NotTried = Literal["retry_budget", "poison"]
"""Why an attempt was not made."""
FaultKind = Literal["parse", "cut", "reset", "control_token", "empty", "unknown_tool"]
"""How an answer broke its format. A Harmony fault inside an engine may also end its connection (``cut``), and
a kept connection after it (``reset``); a lost replica looks the same."""
Header = tuple[bytes, bytes]
_SEND_A_KEY = "Send a live key in the header 'Authorization: Bearer <key>'; your administrator creates keys."


@dataclass(frozen=True, slots=True)
class Form:
    """How an outcome looks to a client. ``status`` 499 (nobody listens) is only ever logged."""

    status: int
    type: str
    code: str | None
    retry: bool = True
    """Whether the same request may succeed later."""


FORMS: Mapping[Outcome, Form] = {
    Outcome.INVALID: Form(400, "invalid_request_error", None),
    Outcome.UNAUTHENTICATED: Form(401, "invalid_request_error", "invalid_api_key"),
    Outcome.FORBIDDEN: Form(403, "invalid_request_error", "insufficient_permissions"),
    Outcome.RATE_LIMITED: Form(429, "rate_limit_error", "rate_limit_exceeded"),
    Outcome.BUDGET_SPENT: Form(429, "insufficient_quota", "insufficient_quota", retry=False),
    Outcome.SHED: Form(503, "service_unavailable_error", "server_is_overloaded"),
    Outcome.DEADLINE: Form(503, "service_unavailable_error", "deadline_exceeded"),
    Outcome.UPSTREAM_FAILED: Form(502, "server_error", "upstream_failed"),
    Outcome.UPSTREAM_BROKEN: Form(502, "server_error", "upstream_broken"),
    Outcome.HARMONY_FAULT: Form(502, "server_error", "harmony_fault"),
    Outcome.CLIENT_GONE_WAITING: Form(499, "client_gone", None),
    Outcome.CLIENT_GONE_STREAMING: Form(499, "client_gone", None),
    Outcome.ABORTED_SHUTDOWN: Form(503, "service_unavailable_error", "server_shutting_down"),
    Outcome.INTERNAL: Form(500, "server_error", "internal_error"),
}


class RequestFailed(Exception):  # noqa: N818  the root of the tree
    """A request that will not be answered as asked.

    ``message`` is shown to the client. ``code`` and ``status`` override the outcome's own; ``retry_after_s``
    is when another try makes sense.
    """

    outcome: Outcome = Outcome.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.retry_after_s = message, param, retry_after_s
        self.headers = headers
        self._code, self._status = code, status

    @property
    def status(self) -> int:
        """HTTP status before the first byte."""
        return self._status or FORMS[self.outcome].status

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object."""
        form = FORMS[self.outcome]
        return {
            "message": self.message,
            "type": FORMS[Outcome.SHED].type if self.status == 503 else form.type,
            "param": self.param,
            "code": self._code or form.code,
        }

    @property
    def body(self) -> bytes:
        """OpenAI's error body."""
        return orjson.dumps({"error": self.error})

    @property
    def retry_headers(self) -> list[Header]:
        """``retry-after`` in whole seconds, 1 to 120, and in milliseconds; or that a retry cannot help."""
        if not FORMS[self.outcome].retry or self.retry_after_s == math.inf:
            return [(b"x-should-retry", b"false")]
        if self.retry_after_s is None:
            return []
        wait_ms = min(max(math.ceil(self.retry_after_s * 1000), 1), MAX_RETRY_AFTER_S * 1000)
        return [(b"retry-after", b"%d" % math.ceil(wait_ms / 1000)), (b"retry-after-ms", b"%d" % wait_ms)]


class BadRequest(RequestFailed):
    """The request is wrong."""

    outcome = Outcome.INVALID


class NotAuthenticated(RequestFailed):
    """No live key came with the request; one message for every cause."""

    outcome = Outcome.UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__(f"Incorrect API key provided. {_SEND_A_KEY}")


class TooManyFailures(RequestFailed):
    """No live key came with the request, nor with many others from its address."""

    outcome = Outcome.RATE_LIMITED

    def __init__(self) -> None:  # the wait is endless, as no wait makes a key good
        words = "Too many requests with incorrect API keys have come from your address. "
        super().__init__(words + _SEND_A_KEY, retry_after_s=math.inf)


class NotAllowed(RequestFailed):
    """The key is good, but may not do this."""

    outcome = Outcome.FORBIDDEN


class LimitReached(RequestFailed):
    """A limit of the tenant or of the key leaves no room for the request."""

    _WORDS: ClassVar[Mapping[LimitName, str]] = {
        "requests": "requests per minute",
        "tokens": "tokens per minute",
        "concurrent": "concurrent requests",
        "budget": "tokens for this reasoning effort today",
    }

    def __init__(self, refusal: Refusal) -> None:
        words, wait_s = self._WORDS[refusal.limit], refusal.retry_after_s
        whose = "API key" if refusal.level == "key" else "tenant"
        when = "This request is larger than the limit itself." if wait_s == math.inf else "Try again later."
        super().__init__(f"Rate limit reached for {words} of your {whose}. {when}", retry_after_s=wait_s)
        self.outcome = Outcome.BUDGET_SPENT if refusal.limit == "budget" else Outcome.RATE_LIMITED


class Overloaded(RequestFailed):
    """There is no room now."""

    outcome = Outcome.SHED


class DeadlineExceeded(RequestFailed):
    """The request took longer than any may, or waited for longer than it may."""

    outcome = Outcome.DEADLINE


class EngineFailed(RequestFailed):
    """The engine, or the way to it, failed.

    ``retry`` says why a second try may succeed; None: it would not.
    """

    outcome = Outcome.UPSTREAM_FAILED

    def __init__(self, message: str, *, retry: RetryReason | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.retry = retry


class HarmonyFault(EngineFailed):
    """The model's answer broke its format; the broken text is never shown."""

    outcome = Outcome.HARMONY_FAULT

    def __init__(self, kind: FaultKind) -> None:
        super().__init__("The model's answer was malformed. Please try again.", retry="harmony")
        self.kind = kind


class ClientGone(RequestFailed):
    """The client left."""

    outcome = Outcome.CLIENT_GONE_WAITING

    def __init__(self) -> None:
        super().__init__("the client left")


class ShutDown(RequestFailed):
    """The gateway ends before the request did."""

    outcome = Outcome.ABORTED_SHUTDOWN

    def __init__(self) -> None:
        super().__init__("The server is shutting down. Please try again.", retry_after_s=1)


class Internal(RequestFailed):
    """A fault of the gateway itself."""

    def __init__(self) -> None:
        super().__init__("The server had an error while processing your request.")


def failure_of(error: Exception) -> RequestFailed:
    """Return the failure that ``error`` means; anything unforeseen is `Internal`."""
    if isinstance(error, RequestFailed):
        return error
    if isinstance(error, InvalidRequest):
        return BadRequest(error.message, param=error.param, code=error.code, status=error.status)
    return Internal()
