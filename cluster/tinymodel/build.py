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

from cluster import vocabulary as published
from cluster.tinymodel import embedding, manifest, shape, vocabulary, weights

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
        _tokenizer(published.check(vocabulary_dir)).save(str(directory / "tokenizer.json"), pretty=False)
        files = {path.name: manifest.sha256(path) for path in sorted(directory.iterdir())}
        _write_json(directory / manifest.MANIFEST, {"recipe": recipe(), "files": files})
        if target.exists():
            shutil.move(target, Path(made) / "replaced")
        directory.replace(target)
    return target


def is_current(target: Path) -> bool:
    """Return whether `target` is whole and made by this version of the code from the shipped weights."""
    try:
        return manifest.read(target)["recipe"] == recipe() and not manifest.damage(target)
    except manifest.CheckpointError:
        return False


def recipe() -> str:
    """Return a digest of all that decides the checkpoint's bytes."""
    parts = [
        weights.SHIPPED.read_bytes(),
        published.SHA256.encode(),
        *(
            Path(module).read_bytes()
            for module in (__file__, embedding.__file__, shape.__file__, weights.__file__)
        ),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


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
