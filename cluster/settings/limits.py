"""Settings of limits: how much a tenant may use, and where it is counted."""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cluster.core.effort import EFFORTS, Effort
from cluster.core.limits import Limits
from cluster.settings.fields import Count, HostPort, PerDay, PerMinute, Seconds, Section

_REDIS_URL = (
    r"^rediss?://(?P<host>\[[0-9a-fA-F:]+\]|[^\s:/@]+)(:(?P<port>[0-9]{1,5}))?(/(?P<database>[0-9]{1,3}))?$"
)


class DailyTokens(Section):
    """Tokens per UTC day by effort."""

    low: PerDay | None = None
    """None: no budget."""
    medium: PerDay | None = None
    """None: no budget."""
    high: PerDay | None = None
    """None: no budget."""

    def __getitem__(self, effort: Effort) -> int | None:
        return {"low": self.low, "medium": self.medium, "high": self.high}[effort]


class RateLimits(Section):
    """Limits of one tenant or key."""

    requests_per_min: PerMinute | None = None
    """Requests per minute, refilled continuously; None: no limit."""
    tokens_per_min: PerMinute | None = None
    """Tokens per minute, prompt and output, refilled continuously; None: no limit."""
    concurrent: Count | None = None
    """Requests in flight at once; None: no limit."""
    tokens_per_day: DailyTokens = DailyTokens()
    """Token budgets per day by effort."""

    @cached_property
    def by_effort(self) -> dict[Effort, Limits]:
        """The limits of one request, by its effort."""
        return {
            effort: Limits(
                requests_per_min=self.requests_per_min,
                tokens_per_min=self.tokens_per_min,
                concurrent=self.concurrent,
                tokens_per_day=self.tokens_per_day[effort],
            )
            for effort in EFFORTS
        }


class RedisSettings(Section):
    """A Redis or Valkey that all gateways share: one primary, perhaps watched by Sentinels.

    Its ``maxmemory-policy`` must be ``noeviction``; with ``appendonly yes`` budgets outlive a restart.
    """

    url: Annotated[str, Field(pattern=_REDIS_URL)]
    """``redis://host:port/database``, or ``rediss://`` for TLS; port (6379) and database (0) may be left out.
    With ``sentinels``, the host is the name by which they know the primary, and there is no port."""
    sentinels: tuple[HostPort, ...] = ()
    """Sentinels that know where the primary is, with TLS where ``url`` has it; empty: ``url`` says it."""
    user: str | None = None
    """User of Redis' access control list; None: the default user."""
    password_file: Path | None = None
    """File with the user's password, read at each connection; None: no password."""
    sentinel_user: str | None = None
    """User at the Sentinels; None: their default user."""
    sentinel_password_file: Path | None = None
    """File with that user's password; None: no password."""
    ca_file: Path | None = None
    """File with the certificates of the authorities that are trusted with TLS; None: the system's."""
    timeout_ms: Annotated[float, Field(ge=1)] = 50
    """Milliseconds that a request waits for an answer; then the gateway decides alone until Redis is back."""
    assumed_gateways: Count = 1
    """Gateways that share the limits, where one has to start while Redis is away; later they are counted."""

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.url.startswith("rediss:")

    @property
    def host(self) -> str:
        """Host of ``url``, or the name that Sentinels know."""
        return str(self._part("host")).strip("[]")

    @property
    def port(self) -> int:
        """Port of ``url``."""
        return int(self._part("port") or 6379)

    @property
    def database(self) -> int:
        """Number of the database."""
        return int(self._part("database") or 0)

    def _part(self, name: str) -> str | None:
        match = re.fullmatch(_REDIS_URL, self.url)
        assert match is not None
        return match[name]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        mistakes = [
            text
            for wrong, text in (
                (self.sentinels and self._part("port"), "url has a port, but sentinels tell the port"),
                (self.user and not self.password_file, "user needs password_file"),
                (
                    self.sentinel_user and not self.sentinel_password_file,
                    "sentinel_user needs its password file",
                ),
                (
                    self.sentinel_password_file and not self.sentinels,
                    "sentinel_password_file needs sentinels",
                ),
                (self.ca_file and not self.tls, "ca_file needs a url that begins with rediss://"),
            )
            if wrong
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


class LimitSettings(Section):
    """Where limits are kept, and those of a tenant that has none of its own."""

    store: Literal["memory", "redis"] = "memory"
    """``memory``: in the gateway process, right for a single gateway. ``redis``: shared by all gateways."""
    redis: RedisSettings | None = None
    """The Redis of ``store: redis``; None: none."""
    max_request_s: Seconds = 1800
    """The one clock: the longest a request may take; every grace period and time-out follows from it."""
    defaults: RateLimits = RateLimits(requests_per_min=600, tokens_per_min=1_000_000, concurrent=64)
    """Limits of a tenant that sets none."""

    @model_validator(mode="after")
    def _store_is_described(self) -> Self:
        if self.store == "redis" and self.redis is None:
            raise ValueError("store is redis, so redis.url is required")
        if self.store == "memory" and self.redis is not None:
            raise ValueError("redis is described, but store is memory: set store to redis, or remove it")
        return self
