"""Is what a replica is about to load complete: the checkpoint's files and the Harmony vocabulary."""

import json
import os
from pathlib import Path
from typing import Any

from cluster import vocabulary
from cluster.vocabulary import VARIABLE

MARKER = ".complete.json"
"""In a model's folder: what `gpt-oss-cluster bundle load` put there, with each file's size and SHA-256."""
LOADING = ".loading-"
"""Begins the name of the folder, beside a model's own, in which it gathers until it is complete."""
STOP_TOKENS = {200002, 200012}
"""``<|return|>`` and ``<|call|>``; mirrors from before the second was added break tool calls (vLLM 22519)."""


class CheckpointError(RuntimeError):
    """A file is missing, cut short or wrong; the message names it and its mend."""


def require_vocabulary(folder: Path | None) -> None:
    """Raise `CheckpointError` unless ``folder``, or the environment's, holds the vocabulary, intact."""
    named = folder or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        raise CheckpointError(
            f"no vocabulary: set serving.vocabulary_dir or {VARIABLE} to the folder of {vocabulary.FILE_NAME}"
        )
    try:
        vocabulary.check(named)
    except vocabulary.VocabularyError as error:
        raise CheckpointError(str(error)) from error


def require_checkpoint(folder: Path) -> None:
    """Raise `CheckpointError` unless ``folder`` holds a complete gpt-oss checkpoint in safetensors."""
    if not folder.is_dir():
        raise CheckpointError(_absence(folder))
    if (folder / MARKER).exists():
        require_marked(folder)
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing; copy the whole checkpoint")
    stops = _json(folder / "generation_config.json").get("eos_token_id")
    if not isinstance(stops, list) or not set(stops) >= STOP_TOKENS:
        raise CheckpointError(
            f"{folder / 'generation_config.json'}: eos_token_id is {stops!r}, without all of "
            f"{sorted(STOP_TOKENS)}: an outdated mirror, with which tool calls fail; copy the current one"
        )
    for path in _shards(folder):
        _require_whole(path)


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return what the marker in ``folder`` says; None where there is none, or none that can be read."""
    try:
        return _object((folder / MARKER).read_bytes())
    except OSError:
        return None


def require_marked(folder: Path) -> None:
    """Raise `CheckpointError` unless ``folder`` has its marker, and all that it lists at the size it had.

    Does not read the files: `bundle load` has compared their hashes.
    """
    if not folder.is_dir():
        raise CheckpointError(_absence(folder))
    marker = read_marker(folder)
    files = marker.get("files") if marker else None
    if not isinstance(files, dict) or not files:
        raise CheckpointError(
            f"{folder / MARKER}: missing or damaged: nobody has checked these files; "
            "run `gpt-oss-cluster bundle load`"
        )
    for name, entry in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != entry["size"]:
            state = "missing" if found is None else f"has {found} bytes, not {entry['size']}"
            raise CheckpointError(f"{path}: {state}; run `gpt-oss-cluster bundle load` again")


def _absence(folder: Path) -> str:
    if folder.with_name(LOADING + folder.name).is_dir():
        return (
            f"{folder}: still being loaded; wait for `gpt-oss-cluster bundle load` (the prefetch Job) to end"
        )
    return f"{folder}: no such directory; models.<name>.source names the checkpoint"


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    names = sorted(set(_json(index)["weight_map"].values()))
    return [folder / name for name in names]


def _require_whole(path: Path) -> None:
    """Compare a safetensors file's size with what its header promises."""
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; copy the whole checkpoint")
    found = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = _object(file.read(length)) if length < found else None
    if header is None:
        raise CheckpointError(f"{path}: not a safetensors file, or cut short; copy it again")
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    promised = 8 + length + max(ends, default=0)
    if found != promised:
        raise CheckpointError(f"{path}: has {found} bytes, its header promises {promised}; copy it again")


def _json(path: Path) -> dict[str, Any]:
    value = _object(path.read_bytes())
    if value is None:
        raise CheckpointError(f"{path}: not a JSON object; copy it again")
    return value


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
