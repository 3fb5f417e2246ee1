"""Build one pool's Serve application: what ``import_path: cluster.serving.app:build`` names.

The demo and KubeRay's ``serveConfigV2`` both deploy it; `cluster.serving.deploy` writes the config.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator
from ray.serve import Application

from cluster import settings as document
from cluster.serving import deploy, profiles
from cluster.serving.pool import Pool


class VariablesError(RuntimeError):
    """A variable that Ray reads at import is not set; the message names each, its value and why."""


class BuildArgs(BaseModel):
    """Arguments of the application: the pool, and the settings document inline or as a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str
    settings: dict[str, Any] | None = None
    config: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.settings is None) == (self.config is None):
            raise ValueError("give either settings (the document) or config (its path)")
        return self


def build(args: BuildArgs) -> Application:
    """Return the pool's application.

    Raises `cluster.settings.SettingsError`, `VariablesError`, and for a profile that is unknown or does not
    fit `cluster.serving.profiles.ProfileError` and `cluster.core.memory.MemoryPlanError`.
    """
    settings = _settings(args)
    if args.pool not in settings.serving.pools:
        known = ", ".join(settings.serving.pools)
        raise document.SettingsError(f"serving.pools has no {args.pool!r}. It has: {known}.")
    require_environment(settings, os.environ)
    pool = Pool.of(args.pool, settings)
    profiles.memory_plan(pool.settings)
    if pool.settings.engine == "sim":
        from cluster.serving import sim_app  # noqa: PLC0415 - the other one imports vLLM: 10 s of CPU

        return sim_app.build(pool)
    from cluster.serving import server  # noqa: PLC0415 - the same

    return server.build(pool)


def require_environment(settings: document.Settings, environ: Mapping[str, str]) -> None:
    """Raise `VariablesError` unless every variable of `deploy.variables` has its value.

    Without some of them Ray starts all the same and quietly serves another ingress.
    """
    wrong = [
        f"  {variable.name}={variable.value}  ({variable.reason}); it is {environ.get(variable.name)!r}"
        for variable in deploy.variables(settings)
        if environ.get(variable.name) != variable.value
    ]
    if wrong:
        raise VariablesError("\n".join(["Set these before Ray starts, on every node:", *wrong]))


def _settings(args: BuildArgs) -> document.Settings:
    if args.config is not None:
        return document.load(args.config)
    return document.parse(args.settings, origin="args.settings")
