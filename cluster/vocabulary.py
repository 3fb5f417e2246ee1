"""The Harmony vocabulary file: where it is, whole, and what to do when it is not.

openai-harmony downloads the file when it is missing, which a private cluster cannot; vLLM may then fail
silently (empty tool calls). So every process that needs it checks it at start.
"""

import hashlib
from pathlib import Path

FILE_NAME = "o200k_base.tiktoken"
SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""SHA-256 of the published file; openai-harmony refuses any other."""
VARIABLE = "TIKTOKEN_ENCODINGS_BASE"
"""Environment variable that tells openai-harmony the file's folder."""


class VocabularyError(RuntimeError):
    """The vocabulary file is missing, damaged or cannot be rebuilt; the message says what to do."""


def check(directory: Path) -> Path:
    """Return the path of the intact vocabulary file in ``directory``. Raises `VocabularyError`."""
    path = directory / FILE_NAME
    mend = "make it with `gpt-oss-cluster demo-model vocabulary`, or copy the published file there"
    if not path.is_file():
        raise VocabularyError(f"the Harmony vocabulary {path} is missing: {mend}")
    found = sha256(path.read_bytes())
    if found != SHA256:
        raise VocabularyError(f"the Harmony vocabulary {path} has SHA-256 {found}, not {SHA256}: {mend}")
    return path


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data``, hex."""
    return hashlib.sha256(data).hexdigest()
