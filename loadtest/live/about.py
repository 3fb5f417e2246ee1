"""What a run says of itself: when, where, with which versions and settings."""

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

import orjson
from pydantic import BaseModel

from loadtest import machine

_PACKAGES = ("gpt-oss-cluster", "locust", "gevent", "geventhttpclient")


def about(base_url: str, settings: Path | None, models: tuple[BaseModel | None, ...]) -> dict[str, str]:
    """Return the facts of a run; ``settings`` is the target's settings document, where it is at hand."""
    facts = {
        **machine.facts(),
        "target": base_url,
        "versions": ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES),
        "plan_sha256": digest(models),
    }
    if commit := _commit():
        facts["commit"] = commit
    if settings is not None:
        facts["settings_sha256"] = hashlib.sha256(settings.read_bytes()).hexdigest()
    return facts


def digest(models: tuple[BaseModel | None, ...]) -> str:
    """Return a hash of plan and objectives: two runs with the same one asked for the same."""
    dumped = [None if model is None else model.model_dump(mode="json") for model in models]
    return hashlib.sha256(orjson.dumps(dumped, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _commit() -> str:
    """Return the commit of the checkout that this runs from; empty where there is none."""
    command = ["git", "-C", str(machine.ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
