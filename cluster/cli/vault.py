"""Where the commands on tenants and keys find them: the options that all of these commands share."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cluster.cli.common import UNREACHABLE, ConfigOption, fail, load_settings
from cluster.stores.admin import Vault
from cluster.stores.key_files import KeyDirectory
from cluster.stores.key_index import load_pepper
from cluster.stores.records import KeyStoreError, KeyStoreUnreachableError


@dataclass(frozen=True, slots=True)
class Place:
    """Where tenants and keys are kept, as the command line says; its fields are the options."""

    keys_dir: Annotated[
        Path | None,
        typer.Option(help="Key directory; without it, auth.keys of the settings document."),
    ] = None
    config: ConfigOption = None

    def vault(self) -> Vault:
        """Return what reads and changes them."""
        return KeyDirectory(self.keys_dir or load_settings(self.config).auth.keys.path)

    def pepper(self, given: Path | None) -> bytes:
        """Return the pepper of the file ``given``, else of the settings document's."""
        return load_pepper(given or load_settings(self.config).auth.pepper_file)


def placed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Place` instead of its parameter ``place``."""
    own = inspect.signature(command)
    hints = get_type_hints(Place, include_extras=True)
    options = [
        inspect.Parameter(
            item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=hints[item.name]
        )
        for item in fields(Place)
    ]

    @wraps(command)
    def wrapper(**given: Any) -> None:
        place = Place(**{option.name: given.pop(option.name) for option in options})
        with _told():
            command(place=place, **given)

    others = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.parameters.values()
        if parameter.name != "place"
    ]
    wrapper.__signature__ = own.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
    return wrapper


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except KeyStoreError as error:
        fail(str(error), UNREACHABLE if isinstance(error, KeyStoreUnreachableError) else 1)
