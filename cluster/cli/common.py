"""What the commands share: exit statuses, the settings option, and how a command fails."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console

from cluster import settings
from cluster.settings import Settings, SettingsError

FINDING, USAGE, UNREACHABLE = 1, 2, 3

CACHE = Path(".cache")
"""Where ``make setup`` puts what the demo needs."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings document. Default: $GPT_OSS_CLUSTER_CONFIG, else /etc/gpt-oss-cluster/config.yaml.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def fail(message: str, status: int = FINDING) -> NoReturn:
    """Print ``message`` and leave with ``status``."""
    Console(stderr=True).print(f"[red]error:[/red] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(status)


def load_settings(path: Path | None) -> Settings:
    """Load the settings document or leave with every mistake named."""
    try:
        return settings.load(settings.find_path(path))
    except SettingsError as error:
        fail(str(error))


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
