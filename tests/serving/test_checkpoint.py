"""A replica refuses files that would fail it later."""

import json
from pathlib import Path

import pytest

from cluster import vocabulary
from cluster.serving.checkpoint import CheckpointError, require_checkpoint, require_vocabulary


def write_shard(path: Path, size: int = 12) -> None:
    """Write a safetensors file with one tensor of ``size`` bytes."""
    header = json.dumps(
        {"__metadata__": {"format": "pt"}, "w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a complete checkpoint of two shards."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [200002, 199999, 200012]}')
    weights = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    for name in weights.values():
        write_shard(tmp_path / name)
    return tmp_path


def test_a_complete_checkpoint_passes(folder: Path) -> None:
    """With an index, and as a single file without one."""
    require_checkpoint(folder)
    (folder / "model.safetensors.index.json").unlink()
    write_shard(folder / "model.safetensors")
    require_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer.json", "model-2.safetensors"]
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """The message starts with the file's path."""
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: missing"):
        require_checkpoint(folder)


def test_a_shard_cut_short_is_found_without_reading_it(folder: Path) -> None:
    """An aborted copy has the right header and too few bytes."""
    path = folder / "model-1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"model-1\.safetensors: has \d+ bytes, its header promises \d+"
    ):
        require_checkpoint(folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"<html>", (5).to_bytes(8, "little") + b"[1,2]"])
def test_something_that_is_no_shard_is_refused(folder: Path, content: bytes) -> None:
    """An error page or an empty file in a shard's place does not crash the check."""
    (folder / "model-1.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file, or cut short"):
        require_checkpoint(folder)


@pytest.mark.parametrize("stops", ["200002", "[200002]", "null"])
def test_an_outdated_mirror_is_refused(folder: Path, stops: str) -> None:
    """Without the call token among the stops, tool calls break."""
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {stops}}}')
    with pytest.raises(CheckpointError, match="outdated mirror"):
        require_checkpoint(folder)


def test_a_missing_directory_names_the_setting() -> None:
    """The mend is in the settings document."""
    with pytest.raises(CheckpointError, match=r"no such directory; models\.<name>\.source"):
        require_checkpoint(Path("/no/such/checkpoint"))


def test_vocabulary_without_a_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the setting nor the environment names one: it would be downloaded."""
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)
    with pytest.raises(CheckpointError, match=r"set serving\.vocabulary_dir or TIKTOKEN_ENCODINGS_BASE"):
        require_vocabulary(None)


def test_vocabulary_is_checked_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, wrong and right, found through the setting or the environment."""
    with pytest.raises(CheckpointError, match="is missing"):
        require_vocabulary(tmp_path)
    (tmp_path / vocabulary.FILE_NAME).write_text("other")
    with pytest.raises(
        CheckpointError, match="has SHA-256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
    ):
        require_vocabulary(tmp_path)
    right = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
    monkeypatch.setattr(vocabulary, "SHA256", right)
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(tmp_path))
    require_vocabulary(None)
