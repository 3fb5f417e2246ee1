"""Settings of who may call: API keys, trusted issuers of tokens, and what either may do."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from cluster.core.effort import MIN_REASONING_TOKENS, Effort
from cluster.core.request import Endpoint
from cluster.core.tier import Tier
from cluster.settings.fields import ModelName, Seconds, Section, TenantName

JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Signatures with a public key; those with a shared secret are not offered."""
SecretName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
NamespaceName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Scopes(Section):
    """What a tenant, a key or a token may do."""

    models: tuple[ModelName, ...] | None = None
    """Models and aliases that may be used; None: all."""
    endpoints: tuple[Endpoint, ...] | None = None
    """Endpoints that may be called; None: all."""
    max_effort: Effort = "high"
    """Highest effort that may be asked for; a higher one is served at this one."""
    see_reasoning: bool = False
    """Whether the chain of thought may be seen."""
    max_reasoning_tokens: Annotated[int, Field(ge=MIN_REASONING_TOKENS)] | None = None
    """Hard cap on the tokens of one chain of thought, at any effort; None: only the effort's own."""
    service_tier: Tier = "default"
    """Highest service tier, and that of requests that name none: ``flex`` yields to the rest, ``priority``
    goes before it."""


class KeyDirectorySettings(Section):
    """Tenants and hashed API keys in a directory, or in a Secret that is mounted as one."""

    source: Literal["file"] = "file"
    """``file``: a directory with ``tenant.<name>.json`` and ``key.<id>.json``."""
    path: Path
    """The directory; looked at once a second. Of a mounted Secret the kubelet decides when it changes."""


class KeySecretSettings(Section):
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


class JwksSettings(Section):
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


class Grant(Section):
    """What tokens with one value in one claim may do."""

    claim: Annotated[str, Field(min_length=1)]
    """The claim; a dotted path leads into objects. Of ``scope`` and ``scp`` each word is a value."""
    value: Annotated[str, Field(min_length=1)]
    """The value that it must be, or hold."""
    tenant: TenantName | None = None
    """Tenant of these tokens; None: the one that ``claims.tenant`` names."""
    scopes: Scopes = Scopes()
    """What they may do; in what is not given they follow their tenant, and never go beyond it."""


class ClaimSettings(Section):
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


class JwtSettings(Section):
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


class AuthSettings(Section):
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
