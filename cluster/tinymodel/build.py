"""Assemble the tiny model's checkpoint directory: what vLLM loads, from what git ships.

Errors: `CheckpointError` (a file is missing or damaged) and `VocabularyError`; both say how to mend it.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from cluster.tinymodel import embedding, shape, vocabulary, weights

MANIFEST = "manifest.json"
MEND = "run `gpt-oss-cluster demo-model build` to make it anew"

_CONTROLS = {
    "<|startoftext|>": shape.START_OF_TEXT,
    "<|endoftext|>": shape.END_OF_TEXT,
    "<|return|>": shape.RETURN,
    "<|constrain|>": shape.CONSTRAIN,
    "<|channel|>": shape.CHANNEL,
    "<|start|>": shape.START,
    "<|end|>": shape.END,
    "<|message|>": shape.MESSAGE,
    "<|call|>": shape.CALL,
    "<|endofprompt|>": 200_018,
}
_PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""How o200k splits text before merging, as in tiktoken's definition of the encoding."""


class CheckpointError(RuntimeError):
    """The checkpoint directory is incomplete or damaged."""


def build(target: Path, *, vocabulary_dir: Path) -> Path:
    """Make the checkpoint directory `target` and return it; one that is current is kept as it is.

    Takes about ten seconds and 400 MB. The directory is made beside `target` and renamed, so that no
    half-made one is ever seen. Raises `VocabularyError` when `vocabulary_dir` lacks the intact vocabulary.
    """
    if is_current(target):
        return target
    tokens = vocabulary.load(vocabulary_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as made:
        directory = Path(made) / target.name
        directory.mkdir()
        weights.write_checkpoint(weights.checkpoint(weights.load(), tokens), directory / "model.safetensors")
        _write_configuration(directory)
        _tokenizer(vocabulary.check(vocabulary_dir)).save(str(directory / "tokenizer.json"), pretty=False)
        files = {path.name: _sha256(path) for path in sorted(directory.iterdir())}
        _write_json(directory / MANIFEST, {"recipe": recipe(), "files": files})
        if target.exists():
            shutil.move(target, Path(made) / "replaced")
        directory.replace(target)
    return target


def is_current(target: Path) -> bool:
    """Return whether `target` is whole and made by this version of the code from the shipped weights."""
    try:
        return _manifest(target)["recipe"] == recipe() and not damage(target)
    except CheckpointError:
        return False


def check(target: Path) -> None:
    """Raise `CheckpointError` when a file of the checkpoint is missing or has the wrong hash."""
    found = damage(target)
    if found:
        raise CheckpointError(f"{'; '.join(found)}: {MEND}")


def damage(target: Path) -> list[str]:
    """Return one sentence for each missing or changed file; raises `CheckpointError` without a manifest."""
    found = []
    for name, expected in _manifest(target)["files"].items():
        path = target / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif (actual := _sha256(path)) != expected:
            found.append(f"{path} has SHA-256 {actual}, not {expected}")
    return found


def recipe() -> str:
    """Return a digest of all that decides the checkpoint's bytes."""
    parts = [
        weights.SHIPPED.read_bytes(),
        vocabulary.SHA256.encode(),
        *(
            Path(module).read_bytes()
            for module in (__file__, embedding.__file__, shape.__file__, weights.__file__)
        ),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _manifest(target: Path) -> dict[str, Any]:
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


def _write_configuration(directory: Path) -> None:
    _write_json(directory / "config.json", shape.hf_config())
    generation = {
        "bos_token_id": shape.START_OF_TEXT,
        "do_sample": True,
        "eos_token_id": list(shape.STOP_TOKENS),
        "pad_token_id": shape.END_OF_TEXT,
    }
    _write_json(directory / "generation_config.json", generation)
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|return|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131_072,
    }
    _write_json(directory / "tokenizer_config.json", tokenizer)


def _tokenizer(file: Path) -> Tokenizer:
    names = {token: name for name, token in _CONTROLS.items()}
    controls = [names.get(i, f"<|reserved_{i}|>") for i in range(shape.START_OF_TEXT, shape.VOCABULARY)]
    converter: Any = TikTokenConverter(  # type: ignore[no-untyped-call]
        vocab_file=str(file), pattern=_PATTERN, extra_special_tokens=controls
    )
    tokenizer: Tokenizer = converter.converted()
    return tokenizer


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
