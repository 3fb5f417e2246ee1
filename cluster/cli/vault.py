"""Where the commands on tenants and keys find them: the options that all of these commands share."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from pydantic import ValidationError

from cluster.cli.common import UNREACHABLE, ConfigOption, fail, load_settings
from cluster.settings import KeyDirectorySettings, KeySecretSettings, KeySettings
from cluster.stores.admin import Vault
from cluster.stores.key_files import KeyDirectory
from cluster.stores.key_index import check_pepper, load_pepper
from cluster.stores.records import KeyStoreError, KeyStoreUnreachableError, mistakes
from deploy.names import fullname


@dataclass(frozen=True, slots=True)
class Place:
    """Where tenants and keys are kept, as the command line says; its fields are the options."""

    keys_dir: Annotated[
        Path | None,
        typer.Option(help="Key directory; without it, auth.keys of the settings document."),
    ] = None
    kubernetes_secret: Annotated[
        str | None, typer.Option(help="Kubernetes Secret that holds them, instead of a directory.")
    ] = None
    release: Annotated[
        str | None,
        typer.Option("--release", "-r", help="Helm release, whose Secrets hold them and the pepper."),
    ] = None
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Its namespace; by default the pod's or context's."),
    ] = None
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig; by default the pod's account, else what kubectl uses.")
    ] = None
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None
    config: ConfigOption = None

    def vault(self) -> Vault:
        """Return what reads and changes them. Raises `KeyStoreError`."""
        keys = self._keys()
        if isinstance(keys, KeyDirectorySettings):
            return KeyDirectory(keys.path)
        from cluster.stores.secret_vault import SecretVault  # noqa: PLC0415 - its import takes most of a second

        return SecretVault(keys)

    def _keys(self) -> KeySettings:
        """Return the place that options name, else the settings document's, which they may refine."""
        refined = self._refined()
        if sum(each is not None for each in (self.kubernetes_secret, self.release, self.keys_dir)) > 1:
            raise typer.BadParameter("--keys-dir, --kubernetes-secret and --release exclude each other")
        if self.release is not None:
            return self._secret(f"{fullname(self.release)}-keys", refined)
        if self.kubernetes_secret is not None:
            return self._secret(self.kubernetes_secret, refined)
        if self.keys_dir is not None:
            return KeyDirectorySettings(path=self.keys_dir)
        keys = load_settings(self.config).auth.keys
        if refined and isinstance(keys, KeyDirectorySettings):
            raise typer.BadParameter(
                f"keys are in the directory {keys.path}: --{min(refined)} says nothing there"
            )
        return keys.model_copy(update=refined)

    def pepper(self, given: Path | None) -> bytes:
        """Return the pepper of the file ``given``, else of the release, else of the settings document's.

        Raises `KeyStoreError`.
        """
        if given is None and self.release is not None:
            from cluster.stores.secret_vault import SecretVault  # noqa: PLC0415 - the same

            name = f"{fullname(self.release)}-secrets"
            vault = SecretVault(self._secret(name, self._refined()))
            hint = "Name a file with --pepper-file, if the release has another Secret."
            return check_pepper(vault.entry("pepper").strip(), f"pepper of Secret {name}", hint)
        return load_pepper(given or load_settings(self.config).auth.pepper_file)

    def _refined(self) -> dict[str, Any]:
        names = ("namespace", "kubeconfig", "context")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _secret(self, name: str, refined: dict[str, Any]) -> KeySecretSettings:
        try:
            return KeySecretSettings(secret=name, **refined)
        except ValidationError as error:
            raise typer.BadParameter(mistakes(error)) from None


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
