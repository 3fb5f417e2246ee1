"""Bundles for tests: small, whole, and signed with a key of their own."""

import json
import random
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.bundle.seal import seal

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SHARD = "model-00001-of-00002.safetensors"


class Count:
    """Progress that only counts."""

    def __init__(self) -> None:
        self.done = 0
        self.totals: list[tuple[str, int]] = []

    def begin(self, title: str, total_bytes: int) -> None:
        """Remember the stretch."""
        self.totals.append((title, total_bytes))

    def advance(self, count_bytes: int) -> None:
        """Count."""
        self.done += count_bytes


def write_checkpoint(folder: Path, *, seed: int = 0, shard_bytes: int = 3_000_000) -> None:
    """Write the files of a checkpoint in two shards of random bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(seed)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text(json.dumps({"seed": seed}))
    (folder / "generation_config.json").write_text('{"eos_token_id": [200002, 199999, 200012]}')
    shards = [SHARD, SHARD.replace("00001", "00002", 1)]
    index = {"weight_map": {f"w{number}": shard for number, shard in enumerate(shards)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for shard in shards:
        tensor = {"dtype": "U8", "shape": [shard_bytes], "data_offsets": [0, shard_bytes]}
        header = json.dumps({"w": tensor}).encode()
        (folder / shard).write_bytes(
            len(header).to_bytes(8, "little") + header + noise.randbytes(shard_bytes)
        )


def sealed(root: Path, *models: str, key: Ed25519PrivateKey = KEY) -> Path:
    """Seal ``root`` as a bundle of these models, writing those that are not there; return it."""
    for number, model in enumerate(models):
        if not (root / "models" / model).exists():
            write_checkpoint(root / "models" / model, seed=number)
    seal(
        root,
        key,
        product="0.1.0",
        created="2026-11-24T00:00:00Z",
        images={},
        models=models,
        progress=Count(),
    )
    return root
