"""Commands on settings: ``check-config``, ``schema``, ``profiles``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster import settings
from cluster.cli.common import JsonOption, fail, print_json
from cluster.core.memory import MemoryPlanError
from cluster.serving import profiles as profiles_of_gpus
from cluster.serving.profiles import ProfileError
from cluster.settings import Settings, SettingsError


def check_config(
    file: Annotated[Path, typer.Argument(help="The settings document.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Check a settings document: every mistake with its path in the file. Exit status 1 if there is any."""
    try:
        document = settings.load(file)
        _check_pools(document, origin=str(file))
    except SettingsError as error:
        if json:
            print_json({"ok": False, "mistakes": str(error).splitlines()})
            raise typer.Exit(1) from None
        fail(str(error))
    if json:
        print_json({"ok": True, "mistakes": []})
    else:
        Console().print(f"[green]{file} is right.[/green] {_summary(document)}", highlight=False)


def _check_pools(document: Settings, *, origin: str) -> None:
    """Raise `SettingsError` for each pool whose profile is not there, or does not fit its GPU."""
    mistakes = []
    for name, pool in document.serving.pools.items():
        try:
            profiles_of_gpus.memory_plan(pool)
        except (MemoryPlanError, ProfileError) as error:
            mistakes.append(f"  serving.pools.{name}: {error}")
    if mistakes:
        raise SettingsError("\n".join([f"{origin}: {len(mistakes)} mistake(s)", *mistakes]))


def _summary(document: Settings) -> str:
    pools = ", ".join(
        f"{name} ({pool.model} on {pool.profile}, {pool.replicas.min} to {pool.replicas.max} replicas)"
        for name, pool in document.serving.pools.items()
    )
    return f"Pools: {pools}."


def schema() -> None:
    """Print the JSON Schema of the settings document."""
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()})


def profiles(json: JsonOption = False) -> None:
    """List the GPU profiles: every engine flag with its reason."""
    columns = ("model", "profile", "flag", "value", "reason")
    rows = list(profiles_of_gpus.table())
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)
