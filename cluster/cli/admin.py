"""Commands on tenants and keys: ``tenants set|list|remove`` and ``keys create|list|rotate|revoke``.

Each act leaves an audit line on standard error.
"""

import getpass
import os
import socket
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import orjson
import typer
from rich.console import Console
from rich.table import Column, Table

from cluster.cli.common import JsonOption, print_json
from cluster.cli.vault import Place, placed
from cluster.core.effort import EFFORTS, MIN_REASONING_TOKENS, Effort
from cluster.core.limits import MAX_PER_DAY, MAX_PER_MIN
from cluster.core.request import Endpoint
from cluster.core.tier import Tier
from cluster.settings import DailyTokens, RateLimits, Scopes
from cluster.stores import admin
from cluster.stores.records import KeyRecord, TenantRecord, live_secrets, within

tenants = typer.Typer(help="Teams and applications, with their limits and scopes.", no_args_is_help=True)
keys = typer.Typer(help="API keys of tenants; a secret is shown once.", no_args_is_help=True)


def _endpoints(given: list[str] | None) -> list[str] | None:
    unknown = set(given or ()) - {*get_args(Endpoint)}
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: use {' or '.join(get_args(Endpoint))}")
    return given


def _reasoning_cap(given: int | None) -> int | None:
    if given is not None and 0 < given < MIN_REASONING_TOKENS:
        raise typer.BadParameter(f"{given}: use {MIN_REASONING_TOKENS} or more, or 0 for no such cap")
    return given


NameArgument = Annotated[str, typer.Argument(help="The tenant's name.")]
KeyArgument = Annotated[str, typer.Argument(help="The key's 8-character id; `keys list` shows it.")]
ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", help="Allow only this model or alias; may be repeated.")
]
EndpointsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        metavar="|".join(get_args(Endpoint)),
        callback=_endpoints,
        help="Allow only this endpoint; may be repeated.",
    ),
]
EffortOption = Annotated[Effort | None, typer.Option(help="Highest effort; more is served at this one.")]
DefaultEffortOption = Annotated[
    Literal["low", "medium", "high", "model"] | None,
    typer.Option(help="Effort of requests that name none; model: the model's own again."),
]
TierOption = Annotated[
    Tier | None, typer.Option(help="Highest service tier, and that of requests that name none.")
]
ReasoningOption = Annotated[
    bool | None, typer.Option("--see-reasoning/--hide-reasoning", help="Whether the chain of thought shows.")
]
ReasoningCapOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        callback=_reasoning_cap,
        help=f"Most tokens of one chain of thought, {MIN_REASONING_TOKENS} or more. 0: no such cap.",
    ),
]
LimitOption = Annotated[int | None, typer.Option(min=0, help="0: no such limit.")]
PerMinuteOption = Annotated[int | None, typer.Option(min=0, max=MAX_PER_MIN, help="0: no such limit.")]
PerDayOption = Annotated[int | None, typer.Option(min=0, max=MAX_PER_DAY, help="0: no such budget.")]
PepperOption = Annotated[
    Path | None, typer.Option(help="Pepper file; without it, auth.pepper_file of the settings document.")
]


@tenants.command("set")
@placed
def set_tenant(
    place: Place,
    name: NameArgument,
    model: ModelsOption = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="Allow every model again.")] = False,
    endpoint: EndpointsOption = None,
    all_endpoints: Annotated[bool, typer.Option("--all-endpoints", help="The same of endpoints.")] = False,
    max_effort: EffortOption = None,
    default_effort: DefaultEffortOption = None,
    see_reasoning: ReasoningOption = None,
    max_reasoning_tokens: ReasoningCapOption = None,
    service_tier: TierOption = None,
    requests_per_min: PerMinuteOption = None,
    tokens_per_min: PerMinuteOption = None,
    concurrent: LimitOption = None,
    tokens_per_day_low: PerDayOption = None,
    tokens_per_day_medium: PerDayOption = None,
    tokens_per_day_high: PerDayOption = None,
    default_limits: Annotated[bool, typer.Option("--default-limits", help="Drop its own limits.")] = False,
    json: JsonOption = False,
) -> None:
    """Create a tenant, or change it: what is not given stays."""
    daily = (tokens_per_day_low, tokens_per_day_medium, tokens_per_day_high)
    everything: dict[str, Any] = {}
    if all_models:
        everything["models"] = None
    if all_endpoints:
        everything["endpoints"] = None
    record = admin.set_tenant(
        place.vault(),
        name,
        now=_now(),
        scopes=Scopes(
            **everything,
            **_scopes(model, endpoint, max_effort, see_reasoning, max_reasoning_tokens, service_tier),
        ),
        default_effort=default_effort,
        limits=_limits(requests_per_min, tokens_per_min, concurrent, daily),
        default_limits=default_limits,
    )
    _done(record, f"Tenant {name} is set.", json)


@tenants.command("list")
@placed
def list_tenants(place: Place, json: JsonOption = False) -> None:
    """List tenants with their scopes and limits."""
    found = admin.list_tenants(place.vault())
    if json:
        print_json([tenant.model_dump(mode="json") for tenant in found])
        return
    table = Table(Column("tenant", no_wrap=True), "scopes", "default effort", "limits")
    for tenant in found:
        effort = tenant.default_effort or "the model's"
        table.add_row(tenant.name, _scope_words(tenant.scopes), effort, _limit_words(tenant.limits))
    Console().print(table)


@tenants.command("remove")
@placed
def remove_tenant(place: Place, name: NameArgument, json: JsonOption = False) -> None:
    """Remove a tenant that has no live key."""
    record = admin.remove_tenant(place.vault(), name, now=_now())
    _done(record, f"Tenant {name} is removed.", json)


@keys.command("create")
@placed
def create_key(
    place: Place,
    tenant: NameArgument,
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    model: ModelsOption = None,
    endpoint: EndpointsOption = None,
    max_effort: EffortOption = None,
    see_reasoning: ReasoningOption = None,
    max_reasoning_tokens: ReasoningCapOption = None,
    service_tier: TierOption = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, show_default="it never expires", help="Days that the key is good.")
    ] = None,
    requests_per_min: PerMinuteOption = None,
    tokens_per_min: PerMinuteOption = None,
    concurrent: LimitOption = None,
    tokens_per_day_low: PerDayOption = None,
    tokens_per_day_medium: PerDayOption = None,
    tokens_per_day_high: PerDayOption = None,
    pepper_file: PepperOption = None,
    json: JsonOption = False,
) -> None:
    """Create a key. Standard output is the key, alone; it is stored nowhere.

    In what is not given it may do what its tenant may, now and later. Limits given here are the key's own,
    and hold beside its tenant's.
    """
    now, daily = _now(), (tokens_per_day_low, tokens_per_day_medium, tokens_per_day_high)
    made = admin.create_key(
        place.vault(),
        tenant,
        pepper=place.pepper(pepper_file),
        now=now,
        label=label,
        scopes=Scopes(
            **_scopes(model, endpoint, max_effort, see_reasoning, max_reasoning_tokens, service_tier)
        ),
        limits=_limits(requests_per_min, tokens_per_min, concurrent, daily),
        expires_at=now + timedelta(days=expires_in_days) if expires_in_days else None,
    )
    _show_secret(made, json)


@keys.command("list")
@placed
def list_keys(place: Place, json: JsonOption = False) -> None:
    """List keys with what they may do now, without their secrets."""
    now, vault = _now(), place.vault()
    owners = {tenant.name: tenant for tenant in admin.list_tenants(vault)}
    facts = [_key_facts(key, owners.get(key.tenant), now) for key in admin.list_keys(vault)]
    if json:
        print_json(facts)
        return
    table = Table(Column("id", no_wrap=True), "tenant", "label", "state", "created", "expires", "scopes")
    for fact in facts:
        table.add_row(
            *(str(fact[column] or "") for column in ("id", "tenant", "label", "state")),
            str(fact["created_at"])[:10],
            str(fact["expires_at"] or "never")[:10],
            _scope_words(Scopes.model_validate(fact["scopes"])),
        )
    Console().print(table)


@keys.command("rotate")
@placed
def rotate_key(
    place: Place,
    key: KeyArgument,
    keep_old_hours: Annotated[
        float, typer.Option(min=0, help="Hours that the old secret stays good, for clients to change over.")
    ] = 24,
    pepper_file: PepperOption = None,
    json: JsonOption = False,
) -> None:
    """Give a key a new secret. Standard output is the new key, alone."""
    made = admin.rotate_key(
        place.vault(),
        key,
        pepper=place.pepper(pepper_file),
        now=_now(),
        keep_old_s=keep_old_hours * 3600,
    )
    _show_secret(made, json)


@keys.command("revoke")
@placed
def revoke_key(
    place: Place,
    key: KeyArgument,
    forget: Annotated[bool, typer.Option("--forget", help="Remove its record too, to make room.")] = False,
    json: JsonOption = False,
) -> None:
    """Revoke a key for good; a running gateway refuses it within seconds."""
    record = admin.revoke_key(place.vault(), key, now=_now(), forget=forget)
    _done(record, f"Key {key} is revoked.", json)


def _scopes(
    models: list[str] | None,
    endpoints: list[str] | None,
    effort: Effort | None,
    reasoning: bool | None,
    reasoning_cap: int | None,
    tier: Tier | None,
) -> dict[str, Any]:
    """Return the fields of `Scopes` that were given; a cap of 0 is none."""
    given = {
        "models": tuple(models) if models else None,
        "endpoints": tuple(endpoints) if endpoints else None,
        "max_effort": effort,
        "see_reasoning": reasoning,
        "service_tier": tier,
    }
    cap = {} if reasoning_cap is None else {"max_reasoning_tokens": reasoning_cap or None}
    return {**{name: value for name, value in given.items() if value is not None}, **cap}


def _limits(
    requests: int | None, tokens: int | None, concurrent: int | None, daily: tuple[int | None, ...]
) -> RateLimits | None:
    """Return the limits that were given, 0 for none, and only their fields set; None when none was given."""

    def given(**options: int | None) -> dict[str, Any]:
        return {name: value or None for name, value in options.items() if value is not None}

    limits = given(requests_per_min=requests, tokens_per_min=tokens, concurrent=concurrent)
    budgets = given(**dict(zip(EFFORTS, daily, strict=True)))
    if budgets:
        limits["tokens_per_day"] = DailyTokens(**budgets)
    return RateLimits(**limits) if limits else None


def _done(record: admin.AuditRecord, text: str, json: bool) -> None:
    _audit(record)
    if json:
        print_json(asdict(record))
    else:
        Console(stderr=True).print(text, highlight=False)


def _show_secret(made: admin.NewSecret, json: bool) -> None:
    _audit(made.audit)
    if json:
        print_json({"key": made.key, **asdict(made.audit)})
        return
    Console(stderr=True).print("Copy the key now; it is stored nowhere.", highlight=False)
    typer.echo(made.key)


def _audit(record: admin.AuditRecord) -> None:
    """Write an audit line, in the form of the gateway's."""
    line = {
        "log": "audit",
        "ts": record.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "act": record.act,
        "actor": _actor(),
        "tenant": record.tenant,
        "key_id": record.key_id,
        "changes": record.changes,
    }
    typer.echo(orjson.dumps(line), err=True)


def _actor() -> str:
    """Return user and machine, as the machine tells them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _key_facts(key: KeyRecord, owner: TenantRecord | None, now: datetime) -> dict[str, Any]:
    """Return what may be told of a key; its scopes are those in force, within its tenant's."""
    live = live_secrets(key, now)
    state = "revoked" if key.revoked_at else "expired" if not live else "live" if owner else "without tenant"
    scopes = within(key.scopes, owner.scopes) if owner else key.scopes
    return {
        **key.model_dump(mode="json", exclude={"secrets", "scopes"}),
        "scopes": scopes.model_dump(mode="json"),
        "secrets": len(live),
        "state": state,
    }


def _scope_words(scopes: Scopes) -> str:
    def names(what: str, given: tuple[str, ...] | None) -> str:
        return f"all {what}" if given is None else ", ".join(given) or f"no {what}"

    cap = scopes.max_reasoning_tokens
    return "; ".join(
        [
            names("models", scopes.models),
            names("endpoints", scopes.endpoints),
            f"{scopes.max_effort} effort",
            "sees reasoning" if scopes.see_reasoning else "reasoning hidden",
            *([] if cap is None else [f"at most {cap} reasoning tokens"]),
            *([] if scopes.service_tier == "default" else [f"{scopes.service_tier} tier"]),
        ]
    )


def _limit_words(limits: RateLimits | None) -> str:
    if limits is None:
        return "the document's defaults"
    told = limits.model_dump(exclude_none=True, exclude={"tokens_per_day"})
    daily = limits.tokens_per_day.model_dump(exclude_none=True)
    return ", ".join(
        [f"{name} {value}" for name, value in told.items()]
        + [f"tokens_per_day.{effort} {value}" for effort, value in daily.items()]
    )


def _now() -> datetime:
    return datetime.now(UTC)
