"""The Harmony vocabulary, rebuilt offline: vLLM needs the file and would otherwise download it.

oss-harmony embeds the vocabulary; decoding every ordinary id with it gives the published file bit for bit.
It has the module name of openai-harmony, which vLLM 0.29 needs, so it must live in a directory of its own and
is only ever imported by a child process.

Errors: `VocabularyError` alone; its message says what to do.
"""

import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster.vocabulary import FILE_NAME, SHA256, VocabularyError, check, sha256

SIZE = 199_998
"""Ordinary tokens: ids 0 to 199,997. The ids from 199,998 to 201,087 are Harmony's control tokens."""
HARMONY_REQUIREMENT = "oss-harmony==0.0.11"

_DUMP = """
import base64, sys
from openai_harmony import HarmonyEncodingName, load_harmony_encoding
encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
for token in range(int(sys.argv[1])):
    data = encoding._inner.decode_bytes([token])
    sys.stdout.buffer.write(base64.b64encode(bytes(data)) + b" %d\\n" % token)
"""


def rebuild(target_dir: Path, *, harmony_dir: Path) -> Path:
    """Write the vocabulary file into `target_dir` and return its path; an intact file is kept.

    `harmony_dir` holds oss-harmony alone (`pip install --no-deps --target harmony_dir oss-harmony==0.0.11`).
    The file appears under its name only when whole. Takes about a second. Raises `VocabularyError`.
    """
    path = target_dir / FILE_NAME
    if path.is_file() and sha256(path.read_bytes()) == SHA256:
        return path
    data = _dump(harmony_dir)
    if sha256(data) != SHA256:
        raise VocabularyError(
            f"the vocabulary rebuilt from {harmony_dir} has SHA-256 {sha256(data)}, not {SHA256}: "
            f"reinstall it there with pip install --no-deps --target {harmony_dir} {HARMONY_REQUIREMENT}"
        )
    target_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target_dir, prefix=FILE_NAME, delete=False) as file:
        file.write(data)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    return path


def load(directory: Path) -> list[bytes]:
    """Return the bytes of each ordinary token, indexed by id; raises `VocabularyError` as `check` does."""
    lines = check(directory).read_bytes().splitlines()
    return [base64.b64decode(line.split()[0]) for line in lines]


def _dump(harmony_dir: Path) -> bytes:
    if not (harmony_dir / "openai_harmony").is_dir():
        raise VocabularyError(
            f"oss-harmony is not in {harmony_dir}: install it there with "
            f"pip install --no-deps --target {harmony_dir} {HARMONY_REQUIREMENT}"
        )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _DUMP, str(SIZE)]
    result = subprocess.run(
        command,
        env=environment | {"PYTHONPATH": str(harmony_dir), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        check=False,
    )
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise VocabularyError(
            f"oss-harmony in {harmony_dir} could not be run ({reason[0]}): install it there with "
            f"pip install --no-deps --target {harmony_dir} {HARMONY_REQUIREMENT}"
        )
    return result.stdout
