"""The demo's settings document and its secrets, in a folder of their own."""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cluster.demo.machine import Engine, Ports
from cluster.settings import Scopes
from cluster.stores import admin
from cluster.stores.key_files import KeyDirectory
from cluster.stores.key_index import load_pepper

MODELS = ("gpt-oss-120b", "gpt-oss-20b")
TENANTS = {"demo": False, "research": True}
"""The demo's tenants, and whether each may see the chain of thought."""
CONTEXT_TOKENS = 8192
"""Context of the tiny model in the demo: enough for any prompt a person types, small in memory."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the demo keeps what it writes."""

    folder: Path

    @property
    def config(self) -> Path:
        """The settings document."""
        return self.folder / "config.yaml"

    @property
    def keys(self) -> Path:
        """Tenants and hashed keys."""
        return self.folder / "keys"

    @property
    def pepper(self) -> Path:
        """The secret that keys are hashed with."""
        return self.folder / "pepper"

    @property
    def engine_key(self) -> Path:
        """The key that replicas demand of the gateway."""
        return self.folder / "engine-key"

    @property
    def ready(self) -> Path:
        """Addresses and keys of a demo that is up; absent while it is not."""
        return self.folder / "ready.json"

    def log(self, name: str) -> Path:
        """Return the log of one of the demo's processes."""
        return self.folder / f"{name}.log"

    def client_key(self, tenant: str) -> Path:
        """Return the file with the plain key of a demo tenant (a demo may; production shows a key once)."""
        return self.folder / f"api-key-{tenant}"


def prepare(state: State) -> None:
    """Create the folder and the secrets that are not there yet; only this user may read them."""
    state.folder.mkdir(parents=True, exist_ok=True)
    state.folder.chmod(0o700)
    state.keys.mkdir(exist_ok=True)
    for path in (state.pepper, state.engine_key):
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32))
    state.ready.unlink(missing_ok=True)


def write_config(state: State, engine: Engine, ports: Ports, checkpoint: Path, vocabulary: Path) -> None:
    """Write the settings document of the demo."""
    text = yaml.safe_dump(document(state, engine, ports, checkpoint, vocabulary), sort_keys=False)
    state.config.write_text(text)


def document(
    state: State, engine: Engine, ports: Ports, checkpoint: Path, vocabulary: Path
) -> dict[str, Any]:
    """Return the settings document: two models, each with one pool on the CPU profile."""
    pool = {
        "profile": "cpu",
        "replicas": {"min": 1, "max": 1},
        "max_model_len": CONTEXT_TOKENS,
        "engine": engine,
    }
    return {
        "version": 1,
        "gateway": {
            "listen": f"127.0.0.1:{ports.gateway}",
            "admin_listen": f"127.0.0.1:{ports.admin}",
            "stream": {"drain_s": 5},
        },
        "serving": {
            "url": f"http://127.0.0.1:{ports.serve}",
            "engine_key_file": str(state.engine_key),
            "vocabulary_dir": str(vocabulary),
            "pools": {name: {"model": name, **pool} for name in MODELS},
        },
        "models": {name: {"pools": [name], "source": str(checkpoint)} for name in MODELS},
        "aliases": {"gpt-oss": {"low": "gpt-oss-20b", "medium": "gpt-oss-120b", "high": "gpt-oss-120b"}},
        "limits": {"max_request_s": 600},
        "auth": {"keys": {"source": "file", "path": str(state.keys)}, "pepper_file": str(state.pepper)},
    }


def client_keys(state: State) -> dict[str, str]:
    """Return the plain key of each demo tenant; made at the first start and kept."""
    return {tenant: _client_key(state, tenant, sees) for tenant, sees in TENANTS.items()}


def _client_key(state: State, tenant: str, see_reasoning: bool) -> str:
    kept = state.client_key(tenant)
    if not kept.exists():
        now, vault = datetime.now(UTC), KeyDirectory(state.keys)
        admin.set_tenant(vault, tenant, now=now, scopes=Scopes(see_reasoning=see_reasoning))
        made = admin.create_key(vault, tenant, pepper=load_pepper(state.pepper), now=now, label="demo")
        kept.touch(mode=0o600)
        kept.write_text(made.key)
    return kept.read_text()


def write_ready(state: State, facts: dict[str, str]) -> None:
    """Say that the demo is up, for scripts and tests."""
    state.ready.touch(mode=0o600)
    state.ready.write_text(json.dumps(facts, indent=2))
