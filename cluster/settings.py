"""The one settings document (``version: 1``) that gateway and serving both read.

The Helm chart renders it verbatim from its ``config:`` value. It is loaded once, frozen, and an unknown key
is an error. Secrets are never in it: every secret is the path of a file. Each field's docstring gives its
unit, and what None means.
"""

import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from cluster.core.addresses import parse_network
from cluster.core.effort import EFFORTS, Effort
from cluster.core.limits import MAX_PER_DAY, MAX_PER_MIN, Limits
from cluster.core.request import Endpoint

DEFAULT_PATH = Path("/etc/gpt-oss-cluster/config.yaml")
PATH_VARIABLE = "GPT_OSS_CLUSTER_CONFIG"


def _checked_network(text: str) -> str:
    parse_network(text)
    return text


Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
PerMinute = Annotated[int, Field(ge=1, le=MAX_PER_MIN)]
PerDay = Annotated[int, Field(ge=1, le=MAX_PER_DAY)]
PoolName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
"""Serve application name and route prefix: lower-case letters, digits, dots and dashes, at most 63."""
TenantName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits and dashes, at most 63: it is a file name, a Secret entry and a metric label."""
JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Signatures with a public key; those with a shared secret are not offered."""
SecretName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
NamespaceName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
HostPort = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:/]+):[0-9]{1,5}$")]
"""``host:port``; an IPv6 host in square brackets."""
ProxyNetwork = Annotated[str, AfterValidator(_checked_network)]
"""An IP address, or a network such as ``10.0.0.0/8``."""
_REDIS_URL = (
    r"^rediss?://(?P<host>\[[0-9a-fA-F:]+\]|[^\s:/@]+)(:(?P<port>[0-9]{1,5}))?(/(?P<database>[0-9]{1,3}))?$"
)
GptOss = Literal["gpt-oss-120b", "gpt-oss-20b"]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""A model or an alias, as clients name it."""


class SettingsError(Exception):
    """The settings document is missing or wrong; the message names each place and its mend."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False)


class StreamSettings(_Section):
    """How answers are held back, kept alive and drained."""

    commit_after_s: Seconds = 10
    """Seconds for which a failure before the first byte still gets its own HTTP status; after that the
    gateway commits to 200 and reports failures as SSE events."""
    keepalive_s: Seconds = 10
    """Seconds of silence after which a committed stream carries a comment, so that proxies keep it open."""
    drain_s: Seconds = 600
    """Seconds that running requests get to finish after SIGTERM."""


class HttpSettings(_Section):
    """How long clients may take on a connection, on both addresses."""

    header_timeout_s: Seconds = 10
    """Seconds for the head of a request, from its first byte; also for the first byte of a new connection."""
    body_timeout_s: Seconds = 30
    """Seconds that a body may stand still, or lag behind ``min_body_bytes_per_s``."""
    min_body_bytes_per_s: Count = 1024
    """Slowest rate, in bytes per second, at which a body may arrive."""
    idle_timeout_s: Seconds = 75
    """Seconds that a connection may wait for its next request: longer than the 60 of common proxies, which
    then close first."""
    write_timeout_s: Seconds = 60
    """Seconds for which a client may take nothing of its answer, or be out of reach; then it has left."""


class GatewaySettings(_Section):
    """The public HTTP face."""

    listen: HostPort = "0.0.0.0:8080"
    """Address of the API."""
    admin_listen: HostPort = "0.0.0.0:8081"
    """Address of ``/metrics``, ``/livez`` and ``/readyz``; never expose it outside the cluster."""
    trusted_proxies: tuple[ProxyNetwork, ...] = ()
    """Addresses or networks of proxies whose ``X-Forwarded-For`` is believed; empty: nobody's. Behind a proxy
    that is not named here all clients have the proxy's address, in audit lines and where failures count."""
    max_body_bytes: Count = 4 * 1024 * 1024
    """Largest request body in bytes; a larger one is refused with 413 before it is read."""
    http: HttpSettings = HttpSettings()
    """How long clients may take on a connection, on both addresses."""
    stream: StreamSettings = StreamSettings()
    """How answers are held back, kept alive and drained."""


class Replicas(_Section):
    """How many replicas, each with a GPU of its own, a pool may have."""

    min: Count = 1
    """Fewest replicas kept ready."""
    max: Count = 1
    """Most replicas that autoscaling may start; without an autoscaling policy a pool stays at ``min``."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class SimulatedEngine(_Section):
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
    reasoning_tokens: dict[Effort, Count] = {"low": 15, "medium": 45, "high": 120}
    """Length of the chain of thought by effort."""
    answer_tokens: Count = 24
    """Length of the answer."""


class PoolSettings(_Section):
    """One model on one GPU profile: one Serve application, one set of engine flags."""

    model: GptOss
    """The model served."""
    profile: str
    """Name of a GPU profile; ``gpt-oss-cluster profiles`` lists them."""
    replicas: Replicas = Replicas()
    """How many replicas the pool may have."""
    max_model_len: Count | None = None
    """Longest prompt plus output in tokens; None: the profile's."""
    max_num_seqs: Count | None = None
    """Largest batch of the engine; None: the profile's."""
    engine: Literal["vllm", "sim"] = "vllm"
    """The engine: vLLM, or the simulated one for tests and demos."""
    sim: SimulatedEngine = SimulatedEngine()
    """Behaviour of the simulated engine; unused with vLLM."""


class ServingSettings(_Section):
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


class Slo(_Section):
    """What users of one effort may expect."""

    wait_s: Seconds
    """Seconds until the first token; arrival plus this is the request's deadline, which is its priority."""
    inter_token_ms: Seconds | None = None
    """Milliseconds between tokens; None: no objective."""
    total_s: Seconds | None = None
    """Seconds for the whole answer; None: no objective."""


class EffortSettings(_Section):
    """Limits and objectives of one effort on one model."""

    max_output_tokens: Count
    """Most output tokens, reasoning included; a client's larger limit is lowered to it."""
    max_reasoning_tokens: Annotated[int, Field(ge=16)] | None = None
    """Hard cap on reasoning tokens (at least 16: below that gpt-oss with tools loops); None: no cap."""
    expected_output_tokens: Count
    """Prior for the mean output, reasoning included, until the gateway has learned it."""
    slo: Slo
    """What users may expect."""


class Efforts(_Section):
    """Settings by effort. The priors stand in about the proportion 1 : 4 : 20 until lengths are learned."""

    low: EffortSettings = EffortSettings(
        max_output_tokens=8192, expected_output_tokens=400, slo=Slo(wait_s=1)
    )
    """Low effort."""
    medium: EffortSettings = EffortSettings(
        max_output_tokens=16384, expected_output_tokens=1500, slo=Slo(wait_s=5)
    )
    """Medium effort."""
    high: EffortSettings = EffortSettings(
        max_output_tokens=65536, expected_output_tokens=8000, slo=Slo(wait_s=30)
    )
    """High effort."""

    def __getitem__(self, effort: Effort) -> EffortSettings:
        return {"low": self.low, "medium": self.medium, "high": self.high}[effort]


class ModelSettings(_Section):
    """One model as clients name it."""

    pools: tuple[PoolName, ...] = Field(min_length=1)
    """Pools that serve the model."""
    source: str
    """Checkpoint directory on every replica."""
    default_effort: Effort = "medium"
    """Effort when a request names none."""
    efforts: Efforts = Efforts()
    """Limits and objectives by effort."""


class Alias(_Section):
    """A model name that stands for another model at each effort."""

    low: GptOss
    """Model at low effort."""
    medium: GptOss
    """Model at medium effort."""
    high: GptOss
    """Model at high effort."""

    def __getitem__(self, effort: Effort) -> GptOss:
        return {"low": self.low, "medium": self.medium, "high": self.high}[effort]


class DailyTokens(_Section):
    """Tokens per UTC day by effort."""

    low: PerDay | None = None
    """None: no budget."""
    medium: PerDay | None = None
    """None: no budget."""
    high: PerDay | None = None
    """None: no budget."""

    def __getitem__(self, effort: Effort) -> int | None:
        return {"low": self.low, "medium": self.medium, "high": self.high}[effort]


class RateLimits(_Section):
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


class Scopes(_Section):
    """What a tenant, a key or a token may do."""

    models: tuple[ModelName, ...] | None = None
    """Models and aliases that may be used; None: all."""
    endpoints: tuple[Endpoint, ...] | None = None
    """Endpoints that may be called; None: all."""
    max_effort: Effort = "high"
    """Highest effort that may be asked for; a higher one is served at this one."""
    see_reasoning: bool = False
    """Whether the chain of thought may be seen."""


class RedisSettings(_Section):
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


class LimitSettings(_Section):
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


class KeyDirectorySettings(_Section):
    """Tenants and hashed API keys in a directory, or in a Secret that is mounted as one."""

    source: Literal["file"] = "file"
    """``file``: a directory with ``tenant.<name>.json`` and ``key.<id>.json``."""
    path: Path
    """The directory; looked at once a second. Of a mounted Secret the kubelet decides when it changes."""


class KeySecretSettings(_Section):
    """Tenants and hashed API keys in a Kubernetes Secret that is watched through the API."""

    source: Literal["kubernetes"] = "kubernetes"
    """``kubernetes``: a Secret with the entries ``tenant.<name>.json`` and ``key.<id>.json``."""
    secret: SecretName
    """Name of the Secret."""
    namespace: NamespaceName | None = None
    """Its namespace; None: the pod's own, or that of the kubeconfig's context."""
    kubeconfig: Path | None = None
    """Kubeconfig file; None: the pod's service account, or outside a pod what kubectl uses."""
    context: str | None = None
    """Context of the kubeconfig; None: its current one."""
    snapshot_file: Path | None = None
    """File that keeps the last records read (digests, no keys) for a start while the API is away; None: such
    a gateway is not ready until the API answers."""


def _source(value: Any) -> str | None:
    source = value.get("source", "file") if isinstance(value, dict) else getattr(value, "source", None)
    return f"[{source}]" if source in {"file", "kubernetes"} else None


KeySettings = Annotated[
    Annotated[KeyDirectorySettings, Tag("[file]")] | Annotated[KeySecretSettings, Tag("[kubernetes]")],
    Discriminator(
        _source, custom_error_type="key_source", custom_error_message="source must be file or kubernetes"
    ),
]


class JwksSettings(_Section):
    """Where the public keys of an issuer of tokens are: in a file, or at a URL."""

    file: Path | None = None
    """File with the JSON Web Key Set; None: ``url``."""
    url: Annotated[str, Field(pattern=r"^https://[^\s]+$")] | None = None
    """URL of the set, over TLS: keys that come in the clear can be exchanged on the way; None: ``file``."""
    ca_file: Path | None = None
    """Certificates (PEM) of the authorities that the URL's own is checked against; None: the system's."""
    refresh_s: Seconds = 300
    """Seconds after which the set is read again; a token with an unknown key asks for it sooner."""
    snapshot_file: Path | None = None
    """File that keeps the last set for a start while the URL is away; None: no token is good until then."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("give either file or url")
        return self


class Grant(_Section):
    """What tokens with one value in one claim may do."""

    claim: Annotated[str, Field(min_length=1)]
    """The claim; a dotted path leads into objects. Of ``scope`` and ``scp`` each word is a value."""
    value: Annotated[str, Field(min_length=1)]
    """The value that it must be, or hold."""
    tenant: TenantName | None = None
    """Tenant of these tokens; None: the one that ``claims.tenant`` names."""
    scopes: Scopes = Scopes()
    """What they may do; in what is not given they follow their tenant, and never go beyond it."""


class ClaimSettings(_Section):
    """What the claims of a token mean here."""

    tenant: Annotated[str, Field(min_length=1)] | None = None
    """Claim that holds the tenant's name; None: each grant names it."""
    grants: tuple[Grant, ...] = ()
    """The first one that a token fits decides, and a token that fits none is refused; empty: every token may
    do what its tenant may."""

    @model_validator(mode="after")
    def _names_a_tenant(self) -> Self:
        if self.tenant is None and not (self.grants and all(grant.tenant for grant in self.grants)):
            raise ValueError("name the claim that holds the tenant, or give every grant its tenant")
        return self


class JwtSettings(_Section):
    """One issuer of tokens (JWT) that is trusted, such as a company's OpenID provider."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
    """Short name; in logs it stands before the token's subject, where a key has its id."""
    issuer: Annotated[str, Field(min_length=1)]
    """``iss`` of its tokens, to the letter."""
    audience: Annotated[str, Field(min_length=1)]
    """``aud`` of tokens that are for this gateway, to the letter; a list is refused, even one that has it."""
    jwks: JwksSettings
    """Where its public keys are."""
    algorithms: Annotated[tuple[JwtAlgorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    """Signatures that are accepted, whatever a token says of itself."""
    claims: ClaimSettings
    """What the claims of its tokens mean here."""


class AuthSettings(_Section):
    """Who may call."""

    keys: KeySettings
    """Where tenants and keys are read from."""
    pepper_file: Path
    """File with the secret that API keys are hashed with (HMAC-SHA-256)."""
    jwt: tuple[JwtSettings, ...] = ()
    """Issuers whose tokens are accepted beside API keys; empty: none's."""

    @model_validator(mode="after")
    def _issuers_differ(self) -> Self:
        for field in ("name", "issuer"):
            values = [getattr(issuer, field) for issuer in self.jwt]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"jwt: two issuers have the {field} {min(twice)!r}")
        return self


class LoggingSettings(_Section):
    """Logs: one JSON object a line on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level written; usage and audit lines are always written."""
    format: Literal["json", "text"] = "json"
    """``json`` for machines, ``text`` for a person at a terminal."""


class Settings(_Section):
    """The whole document."""

    version: Literal[1]
    """Version of the document's form."""
    gateway: GatewaySettings = GatewaySettings()
    """The public HTTP face."""
    serving: ServingSettings
    """The Ray Serve side."""
    models: dict[GptOss, ModelSettings] = Field(min_length=1)
    """Models by the name that clients use."""
    aliases: dict[ModelName, Alias] = {}
    """Further names, each standing for a model at each effort."""
    limits: LimitSettings = LimitSettings()
    """Rate limits."""
    auth: AuthSettings
    """Who may call."""
    logging: LoggingSettings = LoggingSettings()
    """Logs."""

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        mistakes = [*self._pool_mistakes(), *self._alias_mistakes()]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _pool_mistakes(self) -> list[str]:
        pools = self.serving.pools
        missing = [
            f"models.{name}.pools names {pool!r}, which serving.pools lacks"
            for name, model in self.models.items()
            for pool in model.pools
            if pool not in pools
        ]
        wrong = [
            f"models.{name}.pools names {pool!r}, which serves {pools[pool].model}"
            for name, model in self.models.items()
            for pool in model.pools
            if pool in pools and pools[pool].model != name
        ]
        unused = [
            f"serving.pools.{pool} is named by no model"
            for pool in pools
            if all(pool not in model.pools for model in self.models.values())
        ]
        return [*missing, *wrong, *unused]

    def _alias_mistakes(self) -> list[str]:
        clash = [f"aliases.{name} is also a model" for name in self.aliases if name in self.models]
        absent = [
            f"aliases.{name}.{effort} names {alias[effort]!r}, which models lacks"
            for name, alias in self.aliases.items()
            for effort in EFFORTS
            if alias[effort] not in self.models
        ]
        return [*clash, *absent]


def find_path(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file to read: the one given, else the environment's, else the default."""
    return given or Path(environ.get(PATH_VARIABLE) or DEFAULT_PATH)


def load(path: Path) -> Settings:
    """Read and validate the document. Raises `SettingsError`, which names each mistake by its path in it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: no such file. Give --config FILE, set {PATH_VARIABLE}, or create {DEFAULT_PATH}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from error
    return parse(document, origin=str(path))


def parse(document: Any, *, origin: str) -> Settings:
    """Validate a parsed document; ``origin`` is how errors name it. Raises `SettingsError`."""
    if not isinstance(document, dict):
        raise SettingsError(f"{origin}: the document must be a mapping that starts with `version: 1`")
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        lines = [f"{origin}: {len(error.errors())} mistake(s)"]
        lines += [f"  {_place(item['loc'])}: {_reason(item)}" for item in error.errors()]
        raise SettingsError("\n".join(lines)) from error


def _place(loc: tuple[int | str, ...]) -> str:
    """Return where a mistake is; pydantic's own words in the path, such as ``[key]``, are left out."""
    return ".".join(str(part) for part in loc if not str(part).startswith("[")) or "document"


def _reason(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown key; check its spelling with `gpt-oss-cluster schema`"
    if item["type"] == "missing":
        return "required, but missing"
    return str(item["msg"]).removeprefix("Value error, ")
