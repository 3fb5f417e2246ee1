"""The Harmony vocabulary is rebuilt bit for bit, or refused with a sentence that says what to do."""

from pathlib import Path

import pytest

from cluster import vocabulary as published
from cluster.tinymodel import vocabulary
from cluster.vocabulary import VocabularyError

from .conftest import ROOT

HARMONY_DIR = ROOT / ".cache" / "oss-harmony"


def test_rebuilt_file_is_the_published_one(tmp_path: Path) -> None:
    """oss-harmony's embedded vocabulary gives the file that openai-harmony demands."""
    if not (HARMONY_DIR / "openai_harmony").is_dir():
        pytest.skip(f"pip install --no-deps --target {HARMONY_DIR} {vocabulary.HARMONY_REQUIREMENT}")
    path = vocabulary.rebuild(tmp_path / "made", harmony_dir=HARMONY_DIR)
    assert published.check(tmp_path / "made") == path
    assert [p.name for p in path.parent.iterdir()] == [published.FILE_NAME]


def test_an_intact_file_is_kept(vocabulary_dir: Path, tmp_path: Path) -> None:
    """A second rebuild needs no oss-harmony."""
    assert (
        vocabulary.rebuild(vocabulary_dir, harmony_dir=tmp_path / "nothing")
        == vocabulary_dir / published.FILE_NAME
    )


def test_without_oss_harmony_the_error_gives_the_command(tmp_path: Path) -> None:
    """The message holds the pip command for the right directory."""
    with pytest.raises(
        VocabularyError, match=r"pip install --no-deps --target .*nothing oss-harmony==0\.0\.11"
    ):
        vocabulary.rebuild(tmp_path, harmony_dir=tmp_path / "nothing")


def test_a_broken_oss_harmony_is_named_with_its_last_line(tmp_path: Path) -> None:
    """What the child process died of is in the error."""
    package = tmp_path / "harmony" / "openai_harmony"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no such wheel')\n")
    with pytest.raises(VocabularyError, match="no such wheel"):
        vocabulary.rebuild(tmp_path, harmony_dir=tmp_path / "harmony")


def test_another_vocabulary_is_refused_and_not_written(tmp_path: Path) -> None:
    """A wrong hash leaves no file behind."""
    package = tmp_path / "harmony" / "openai_harmony"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "class HarmonyEncodingName: HARMONY_GPT_OSS = 1\n"
        "class Inner:\n    def decode_bytes(self, ids): return b'x'\n"
        "class Encoding: _inner = Inner()\n"
        "def load_harmony_encoding(name): return Encoding()\n"
    )
    with pytest.raises(VocabularyError, match="has SHA-256"):
        vocabulary.rebuild(tmp_path / "made", harmony_dir=tmp_path / "harmony")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("content", "reason"), [(None, "is missing"), (b"abc", "has SHA-256")])
def test_check_names_the_file_and_the_mend(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A missing and a damaged file are told apart, and both errors say what to run."""
    if content is not None:
        (tmp_path / published.FILE_NAME).write_bytes(content)
    with pytest.raises(VocabularyError, match=f"o200k_base.tiktoken {reason}.*demo-model vocabulary"):
        published.check(tmp_path)
