"""The whole settings document: read, checked as a whole, and its mistakes named."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from cluster.core.effort import EFFORTS
from cluster.settings.auth import AuthSettings
from cluster.settings.fields import GptOss, ModelName, Section
from cluster.settings.gateway import GatewaySettings, LoggingSettings
from cluster.settings.limits import LimitSettings
from cluster.settings.models import Alias, ModelSettings, TierSettings
from cluster.settings.serving import ServingSettings

DEFAULT_PATH = Path("/etc/gpt-oss-cluster/config.yaml")
PATH_VARIABLE = "GPT_OSS_CLUSTER_CONFIG"


class SettingsError(Exception):
    """The settings document is missing or wrong; the message names each place and its mend."""


class Settings(Section):
    """The whole document."""

    version: Literal[1]
    """Version of the document's form."""
    gateway: GatewaySettings = GatewaySettings()
    """The public HTTP face."""
    serving: ServingSettings
    """The Ray Serve side."""
    models: dict[GptOss, ModelSettings] = Field(min_length=1)
    """Models by the name that clients use."""
    aliases: dict[ModelName, Alias] = Field(default={})
    """Further names, each standing for a model at each effort."""
    tiers: TierSettings = TierSettings()
    """How service tiers shift deadlines."""
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
