"""The tiny checkpoint's manifest: is every file there, and the one that was built.

Needs the standard library alone, so that the demo can look before it starts anything.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
MEND = "run `gpt-oss-cluster demo-model build` to make it anew"


class CheckpointError(RuntimeError):
    """The checkpoint directory is incomplete or damaged."""


def check(target: Path) -> None:
    """Raise `CheckpointError` when a file of the checkpoint is missing or has the wrong hash."""
    found = damage(target)
    if found:
        raise CheckpointError(f"{'; '.join(found)}: {MEND}")


def damage(target: Path) -> list[str]:
    """Return one sentence for each missing or changed file; raises `CheckpointError` without a manifest."""
    found = []
    for name, expected in read(target)["files"].items():
        path = target / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif (actual := sha256(path)) != expected:
            found.append(f"{path} has SHA-256 {actual}, not {expected}")
    return found


def read(target: Path) -> dict[str, Any]:
    """Return the manifest. Raises `CheckpointError` when there is none."""
    path = target / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: {MEND}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {MEND}") from error
    if not isinstance(manifest.get("files"), dict) or not manifest["files"]:
        raise CheckpointError(f"{path} lists no files: {MEND}")
    return manifest


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
