"""The trained part as shipped, and the checkpoint's tensors made of it.

bfloat16 is handled as its 16 bits, in numpy, so that building needs no torch. The shipped file holds the
blocks under their names in the checkpoint, and three tensors more: the ids of the trained rows, and those
rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from cluster.tinymodel import embedding, shape

Bits = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]

SHIPPED = Path(__file__).with_name("weights.safetensors")
EMBEDDING, UNEMBEDDING, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
_IDS, _INPUTS, _OUTPUTS = "trained.ids", "trained.inputs", "trained.outputs"


@dataclass(frozen=True)
class Trained:
    """What training made: each block tensor's bits by name, the trained ids, and their rows [n, HIDDEN]."""

    blocks: Mapping[str, Bits]
    ids: npt.NDArray[np.int32]
    inputs: Bits
    outputs: Bits


def to_bits(values: Floats) -> Bits:
    """Round float32 to bfloat16 (nearest, ties to even) and return the bits."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def seed_rows(vocabulary: Sequence[bytes]) -> Floats:
    """Return the unscaled seed rows of the vocabulary and the control tokens, [VOCABULARY, HIDDEN]."""
    controls = [b"<|control %d|>" % token for token in range(shape.START_OF_TEXT, shape.VOCABULARY)]
    return embedding.rows([*vocabulary, *controls])


def save(trained: Trained, path: Path) -> None:
    """Write the trained part."""
    tensors: dict[str, npt.NDArray[Any]] = {**trained.blocks}
    tensors |= {_IDS: trained.ids, _INPUTS: trained.inputs, _OUTPUTS: trained.outputs}
    _write(tensors, path)


def load(path: Path = SHIPPED) -> Trained:
    """Read the trained part."""
    tensors = dict(safetensors.deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]

    def bits(name: str) -> Bits:
        return np.frombuffer(tensors[name]["data"], dtype=np.uint16).reshape(tensors[name]["shape"])

    blocks = {name: bits(name) for name in tensors if not name.startswith("trained.")}
    ids = np.frombuffer(tensors[_IDS]["data"], dtype=np.int32)
    return Trained(blocks, ids, bits(_INPUTS), bits(_OUTPUTS))


def checkpoint(trained: Trained, vocabulary: Sequence[bytes]) -> dict[str, Bits]:
    """Return every tensor of the checkpoint, as bfloat16 bits."""
    rows = seed_rows(vocabulary)
    inputs, outputs = to_bits(rows * embedding.INPUT_SCALE), to_bits(rows * embedding.OUTPUT_SCALE)
    inputs[trained.ids], outputs[trained.ids] = trained.inputs, trained.outputs
    return {**trained.blocks, EMBEDDING: inputs, UNEMBEDDING: outputs}


def write_checkpoint(tensors: Mapping[str, Bits], path: Path) -> None:
    """Write a checkpoint's tensors as one safetensors file."""
    _write(tensors, path, {"format": "pt"})


def _write(
    tensors: Mapping[str, npt.NDArray[Any]], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write 16-bit tensors as bfloat16 and the others as int32, in the order of their names."""
    held = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    specs = {
        name: safetensors.TensorSpec(
            dtype="bfloat16" if values.dtype == np.uint16 else "int32",
            shape=values.shape,
            data_ptr=values.ctypes.data,
            data_len=values.nbytes,
        )
        for name, values in held.items()
    }
    safetensors.serialize_file(specs, str(path), metadata)
    path.chmod(0o644)  # safetensors makes it private; a service of another user must be able to read it
