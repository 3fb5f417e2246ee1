"""The checkpoint is made whole, the same bytes each time, and damage to it is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from cluster.tinymodel import build, embedding, manifest, shape, weights
from cluster.tinymodel.embedding import Kind
from cluster.vocabulary import VocabularyError


@pytest.fixture(scope="module")
def checkpoint(vocabulary_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a freshly built checkpoint, for reading."""
    return build.build(tmp_path_factory.mktemp("models") / "tiny", vocabulary_dir=vocabulary_dir)


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """Return a checkpoint to damage: the real manifest beside links to the real files."""
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_it_holds_what_vllm_loads(checkpoint: Path) -> None:
    """The directory has the files of a real checkpoint, and nothing half-made lies beside it."""
    assert {p.name for p in checkpoint.iterdir()} == {
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [p.name for p in checkpoint.parent.iterdir()] == ["tiny"]


def test_generation_stops_at_all_three_tokens(checkpoint: Path) -> None:
    """`<|return|>`, `<|endoftext|>` and `<|call|>` end an answer."""
    stops = json.loads((checkpoint / "generation_config.json").read_text())["eos_token_id"]
    assert set(stops) == {200_002, 199_999, 200_012}


def test_two_builds_give_the_same_bytes(checkpoint: Path, vocabulary_dir: Path, tmp_path: Path) -> None:
    """Nothing in it depends on time, place or chance."""
    other = build.build(tmp_path / "again", vocabulary_dir=vocabulary_dir)
    assert (other / manifest.MANIFEST).read_bytes() == (checkpoint / manifest.MANIFEST).read_bytes()


def test_a_current_checkpoint_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    """A second build needs not even the vocabulary."""
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert build.build(checkpoint, vocabulary_dir=tmp_path / "nothing") == checkpoint
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == before


def test_without_a_vocabulary_nothing_is_made(tmp_path: Path) -> None:
    """The vocabulary's own error comes through, and no directory appears."""
    with pytest.raises(VocabularyError, match="is missing"):
        build.build(tmp_path / "models" / "tiny", vocabulary_dir=tmp_path)
    assert not (tmp_path / "models").exists()


def test_a_whole_checkpoint_passes(copy: Path) -> None:
    """No file of it is missing or changed."""
    manifest.check(copy)
    assert build.is_current(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    """The error names the file and the command that makes it anew."""
    (copy / "tokenizer.json").unlink()
    with pytest.raises(
        manifest.CheckpointError, match=r"tokenizer\.json is missing: run `gpt-oss-cluster demo-model build`"
    ):
        manifest.check(copy)
    assert not build.is_current(copy)


def test_a_changed_file_is_named(copy: Path) -> None:
    """The error names the file whose hash is wrong."""
    (copy / "config.json").unlink()
    (copy / "config.json").write_text("{}")
    with pytest.raises(manifest.CheckpointError, match=r"config\.json has SHA-256"):
        manifest.check(copy)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "is missing"), ("{", "is not JSON"), ('{"recipe": "x"}', "lists no files")]
)
def test_a_bad_manifest_is_an_error(copy: Path, content: str | None, reason: str) -> None:
    """A directory without a readable manifest is no checkpoint of ours."""
    (copy / manifest.MANIFEST).unlink()
    if content is not None:
        (copy / manifest.MANIFEST).write_text(content)
    with pytest.raises(manifest.CheckpointError, match=f"manifest.json {reason}"):
        manifest.check(copy)


def test_an_older_recipe_is_not_current(copy: Path) -> None:
    """A whole checkpoint from other weights is replaced at the next build."""
    old = json.loads((copy / manifest.MANIFEST).read_text())
    (copy / manifest.MANIFEST).unlink()
    (copy / manifest.MANIFEST).write_text(json.dumps(old | {"recipe": "older"}))
    manifest.check(copy)
    assert not build.is_current(copy)


def test_the_shipped_part_is_small() -> None:
    """Git carries four megabytes at most."""
    assert weights.SHIPPED.stat().st_size <= 4_000_000


def test_the_shipped_part_has_the_shape_of_the_code() -> None:
    """Weights of another shape than config.json's would be an unloadable checkpoint."""
    trained = weights.load()
    query = trained.blocks["model.layers.0.self_attn.q_proj.weight"]
    assert query.shape == (shape.HEADS * shape.HEAD_DIM, shape.HIDDEN)
    assert sum(name.endswith("mlp.router.weight") for name in trained.blocks) == shape.LAYERS
    assert trained.inputs.shape == trained.outputs.shape == (len(trained.ids), shape.HIDDEN)


def test_bits_round_to_the_nearest_bfloat16() -> None:
    """Ties go to the even neighbour, as in torch."""
    values = np.array([1.0, -0.5, 1.00390625, 1.01171875, 3.1415927, 0.0], dtype=np.float32)
    assert [hex(b) for b in weights.to_bits(values)] == [
        "0x3f80",
        "0xbf00",
        "0x3f80",
        "0x3f82",
        "0x4049",
        "0x0",
    ]


def test_seed_rows_are_exact_in_bfloat16() -> None:
    """No rounding can differ between machines: each scaled entry is a bfloat16 number."""
    rows = embedding.rows([b" Paris", b"Paris", b"?", b"\n", b"<|end|>"], first_control=4)
    for scale in (embedding.INPUT_SCALE, embedding.OUTPUT_SCALE):
        scaled = rows * scale
        assert (scaled.view(np.uint32) & 0xFFFF == 0).all()
    assert rows.shape == (5, shape.HIDDEN)


def test_a_word_and_its_spaced_twin_share_a_name() -> None:
    """They differ in features alone; another word has another name."""
    spaced, bare, other = embedding.rows([b" Paris", b"Paris", b" Rome"], first_control=9)
    assert (spaced[: embedding.NAME] == bare[: embedding.NAME]).all()
    assert (spaced != bare).any()
    assert (spaced[: embedding.NAME] != other[: embedding.NAME]).mean() > 0.3


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (b" Paris", Kind.BEGINS),
        (b"Paris", Kind.CONTINUES),
        ("龙".encode(), Kind.BEGINS),
        ("ไทย".encode(), Kind.BEGINS),
        (b"2024", Kind.CONTINUES),
        (b"?", Kind.OTHER),
        (b" ", Kind.OTHER),
        (b"_name", Kind.OTHER),
        (b"\x9a", Kind.CONTINUES),
        (b" \xf0\x9f", Kind.BEGINS),
    ],
    ids=[
        "spaced",
        "bare",
        "han",
        "thai",
        "digits",
        "mark",
        "space",
        "underscore",
        "fragment",
        "spaced-fragment",
    ],
)
def test_kinds(token: bytes, kind: Kind) -> None:
    """A token's kind follows from its first character and its space."""
    assert embedding.kind(token) is kind
