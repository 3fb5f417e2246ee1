"""The vocabulary and the encoding, made once; without the rebuilt vocabulary these tests are skipped."""

import os
from pathlib import Path

import pytest

from cluster import vocabulary
from cluster.tinymodel.tokens import Tokens

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def vocabulary_dir() -> Path:
    """Return the directory of the intact vocabulary."""
    directory = Path(os.environ.get("TIKTOKEN_ENCODINGS_BASE", ROOT / ".cache" / "vocabulary"))
    try:
        vocabulary.check(directory)
    except vocabulary.VocabularyError as error:
        pytest.skip(f"{error} (`make setup` does it)")
    return directory


@pytest.fixture(scope="session")
def tokens(vocabulary_dir: Path) -> Tokens:
    """Return the encoding; openai-harmony reads the directory from the environment when it first loads."""
    os.environ.setdefault("TIKTOKEN_ENCODINGS_BASE", str(vocabulary_dir))
    return Tokens(vocabulary_dir)
