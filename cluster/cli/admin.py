"""Commands on tenants and keys: ``tenants set|list|remove`` and ``keys create|list|rotate|revoke``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli.common import ConfigOption, JsonOption, fail, load_settings, print_json
from cluster.core.effort import Effort
from cluster.core.limits import MAX_PER_DAY, MAX_PER_MIN
from cluster.settings import DailyTokens, RateLimits
from cluster.stores import admin
from cluster.stores.key_files import KeyStoreError, load_pepper
from cluster.stores.records import KeyRecord, Scopes, live_secrets

tenants = typer.Typer(help="Teams and applications, with their limits and scopes.", no_args_is_help=True)
keys = typer.Typer(help="API keys of tenants; a secret is shown once.", no_args_is_help=True)

KeysDirOption = Annotated[
    Path | None,
    typer.Option("--keys-dir", help="Key directory; without it, auth.keys.path of the settings document."),
]
NameArgument = Annotated[str, typer.Argument(help="The tenant's name.")]
KeyArgument = Annotated[str, typer.Argument(help="The key's 8-character id; `keys list` shows it.")]
ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", help="Allow only this model or alias; may be repeated.")
]
EffortOption = Annotated[Effort, typer.Option(help="Highest effort; more is served at this one.")]
LimitOption = Annotated[int | None, typer.Option(min=1)]
PerMinuteOption = Annotated[int | None, typer.Option(min=1, max=MAX_PER_MIN)]
PerDayOption = Annotated[int | None, typer.Option(min=1, max=MAX_PER_DAY)]


@tenants.command("set")
def set_tenant(
    name: NameArgument,
    model: ModelsOption = None,
    max_effort: EffortOption = "high",
    see_reasoning: Annotated[bool, typer.Option(help="May see the chain of thought.")] = False,
    requests_per_min: PerMinuteOption = None,
    tokens_per_min: PerMinuteOption = None,
    concurrent: LimitOption = None,
    tokens_per_day_low: PerDayOption = None,
    tokens_per_day_medium: PerDayOption = None,
    tokens_per_day_high: PerDayOption = None,
    keys_dir: KeysDirOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Create a tenant or replace its scopes and limits. Without any limit it has the document's defaults."""
    daily = DailyTokens(low=tokens_per_day_low, medium=tokens_per_day_medium, high=tokens_per_day_high)
    scopes = Scopes(
        models=tuple(model) if model else None, max_effort=max_effort, see_reasoning=see_reasoning
    )
    with _failing():
        record = admin.set_tenant(
            _directory(keys_dir, config),
            name,
            now=_now(),
            scopes=scopes,
            limits=_given_limits(requests_per_min, tokens_per_min, concurrent, daily),
        )
    _done(record, f"Tenant {name} is set.", json)


@tenants.command("list")
def list_tenants(
    keys_dir: KeysDirOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """List tenants with their scopes and limits."""
    with _failing():
        found = admin.list_tenants(_directory(keys_dir, config))
    if json:
        print_json([tenant.model_dump(mode="json") for tenant in found])
        return
    table = Table("tenant", "models", "highest effort", "sees reasoning", "limits")
    for tenant in found:
        scopes = tenant.scopes
        seen = "yes" if scopes.see_reasoning else "no"
        table.add_row(tenant.name, _names(scopes.models), scopes.max_effort, seen, _limits(tenant.limits))
    Console().print(table)


@tenants.command("remove")
def remove_tenant(
    name: NameArgument, keys_dir: KeysDirOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Remove a tenant that has no live key."""
    with _failing():
        record = admin.remove_tenant(_directory(keys_dir, config), name, now=_now())
    _done(record, f"Tenant {name} is removed.", json)


@keys.command("create")
def create_key(
    tenant: NameArgument,
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    model: ModelsOption = None,
    max_effort: Annotated[
        Effort | None, typer.Option(help="Highest effort; by default the tenant's.")
    ] = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, help="By default it never expires.")] = None,
    requests_per_min: PerMinuteOption = None,
    tokens_per_min: PerMinuteOption = None,
    concurrent: LimitOption = None,
    tokens_per_day_low: PerDayOption = None,
    tokens_per_day_medium: PerDayOption = None,
    tokens_per_day_high: PerDayOption = None,
    keys_dir: KeysDirOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Create a key. Its secret is printed once and stored nowhere: standard output is the key, alone.

    Limits given here are the key's own, and hold beside its tenant's.
    """
    now, document = _now(), load_settings(config)
    directory = keys_dir or document.auth.keys.path
    given = {"models": tuple(model) if model else None, "max_effort": max_effort}
    daily = DailyTokens(low=tokens_per_day_low, medium=tokens_per_day_medium, high=tokens_per_day_high)
    with _failing():
        made = admin.create_key(
            directory,
            tenant,
            pepper=load_pepper(document.auth.pepper_file),
            now=now,
            label=label,
            scopes=_narrowed(directory, tenant, {name: value for name, value in given.items() if value}),
            limits=_given_limits(requests_per_min, tokens_per_min, concurrent, daily),
            expires_at=now + timedelta(days=expires_in_days) if expires_in_days else None,
        )
    _show_secret(made, json)


@keys.command("list")
def list_keys(keys_dir: KeysDirOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List keys, without their secrets."""
    now = _now()
    with _failing():
        found = admin.list_keys(_directory(keys_dir, config))
    if json:
        print_json([_key_facts(key, now) for key in found])
        return
    table = Table("id", "tenant", "label", "state", "created", "expires")
    for key in found:
        facts = _key_facts(key, now)
        table.add_row(
            *(str(facts[column] or "") for column in ("id", "tenant", "label", "state")),
            f"{key.created_at:%Y-%m-%d}",
            f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never",
        )
    Console().print(table)


@keys.command("rotate")
def rotate_key(
    key: KeyArgument,
    keep_old_hours: Annotated[
        float, typer.Option(min=0, help="Hours that the old secret stays good, for clients to change over.")
    ] = 24,
    keys_dir: KeysDirOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give a key a new secret. Standard output is the new key, alone."""
    document = load_settings(config)
    with _failing():
        made = admin.rotate_key(
            keys_dir or document.auth.keys.path,
            key,
            pepper=load_pepper(document.auth.pepper_file),
            now=_now(),
            keep_old_s=keep_old_hours * 3600,
        )
    _show_secret(made, json)


@keys.command("revoke")
def revoke_key(
    key: KeyArgument, keys_dir: KeysDirOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Revoke a key for good; a running gateway refuses it within two seconds."""
    with _failing():
        record = admin.revoke_key(_directory(keys_dir, config), key, now=_now())
    _done(record, f"Key {key} is revoked.", json)


def _directory(given: Path | None, config: Path | None) -> Path:
    return given or load_settings(config).auth.keys.path


def _given_limits(
    requests_per_min: int | None, tokens_per_min: int | None, concurrent: int | None, daily: DailyTokens
) -> RateLimits | None:
    """Return the limits that options give; None when none was given."""
    limits = RateLimits(
        requests_per_min=requests_per_min,
        tokens_per_min=tokens_per_min,
        concurrent=concurrent,
        tokens_per_day=daily,
    )
    return None if limits == RateLimits() else limits


def _narrowed(directory: Path, tenant: str, given: dict[str, Any]) -> Scopes | None:
    """Return the tenant's scopes with what was given in their place; None when nothing was."""
    owners = [owner for owner in admin.list_tenants(directory) if owner.name == tenant]
    return owners[0].scopes.model_copy(update=given) if owners and given else None


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except KeyStoreError as error:
        fail(str(error))


def _done(record: admin.AuditRecord, text: str, json: bool) -> None:
    if json:
        print_json(asdict(record))
    else:
        Console(stderr=True).print(text, highlight=False)


def _show_secret(made: admin.NewSecret, json: bool) -> None:
    if json:
        print_json({"key": made.key, **asdict(made.audit)})
        return
    Console(stderr=True).print("Copy the key now; it is stored nowhere.", highlight=False)
    typer.echo(made.key)


def _key_facts(key: KeyRecord, now: datetime) -> dict[str, Any]:
    state = "revoked" if key.revoked_at else "live" if live_secrets(key, now) else "expired"
    return {**key.model_dump(mode="json", exclude={"secrets"}), "secrets": len(key.secrets), "state": state}


def _names(models: tuple[str, ...] | None) -> str:
    return "all" if models is None else ", ".join(models)


def _limits(limits: RateLimits | None) -> str:
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
