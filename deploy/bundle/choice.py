"""Which files belong into a bundle. Pure.

The models' repositories hold each model three times: for Transformers and vLLM at the top, and as
``original/`` and ``metal/`` besides. Only the first is chosen, by name, so that a mirror needs no listing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.bundle.errors import BundleError

INDEX = "model.safetensors.index.json"
REQUIRED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "LICENSE",
    "USAGE_POLICY",
)
"""Without these a model is not to be served, or not to be passed on."""
OPTIONAL = ("chat_template.jinja", "special_tokens_map.json", "README.md")

_SHARD = re.compile(r"[\w.-]+\.safetensors")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def weights(index: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the files of a model's weights, from its index or, without one, the single file.

    Raises `BundleError` for an index that names anything else than files beside it.
    """
    if index is None:
        return ("model.safetensors",)
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BundleError(f"{INDEX}: has no weight_map: copy it again")
    shards = sorted(set(map(str, names.values())))
    if wrong := [name for name in shards if not _SHARD.fullmatch(name)]:
        raise BundleError(f"{INDEX}: {wrong[0]!r} is no name of a shard beside it")
    return (INDEX, *shards)


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file."""

    name: str
    version: str
    sha256s: frozenset[str]
    """Of the files that may be installed."""


def pins(lock: str) -> list[Pin]:
    """Return the packages that a lock file names."""
    return [
        Pin(re.sub(r"[-_.]+", "-", name).lower(), version, frozenset(_HASH.findall(rest)))
        for name, version, rest in _PIN.findall(lock)
    ]


def wheels(lock: str, found: Mapping[str, str]) -> tuple[list[str], list[Pin]]:
    """Return the files (name to SHA-256) that a lock asks for, and the pins for which there is none."""
    locked = pins(lock)
    wanted = {digest for pin in locked for digest in pin.sha256s}
    held = set(found.values())
    return (
        sorted(name for name, digest in found.items() if digest in wanted),
        [pin for pin in locked if not pin.sha256s & held],
    )


def sums(text: str) -> dict[str, str]:
    """Return SHA-256 by file name from lines of ``sha256sum``. Raises `BundleError`."""
    found = {}
    for line in filter(str.strip, text.splitlines()):
        match = re.fullmatch(r"([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(\S.*)", line)
        if match is None:
            raise BundleError(f"{line!r} is no line of sha256sum: `<64 hex digits>  <name>`")
        found[match[2]] = match[1].lower()
    return found
