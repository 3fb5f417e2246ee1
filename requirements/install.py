"""Set up the development environment, with progress: `.venv`, the Harmony vocabulary, the tiny checkpoint.

Runs under a bare Python 3.11 or 3.12 (standard library only), called by `make setup`. Each step is skipped
when what it would do is done already. The output goes to `.cache/setup.log`; its end is shown on failure.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
LOG = CACHE / "setup.log"
TORCH = "torch==2.13.0"
NEEDED_GIB = 6
"""Disk that the environment takes: 4.4 GiB, measured, and room for pip's downloads."""
STARTED = time.monotonic()


def main() -> int:
    """Run every step that is not done; return the exit status."""
    CACHE.mkdir(exist_ok=True)
    try:
        check_machine()
        for title, needed, action in steps():
            if needed():
                say(title)
                action()
    except SetupError as error:
        print(f"\nset-up failed: {error}", file=sys.stderr)
        return 1
    return 0


class SetupError(Exception):
    """A step failed; the message says what to do."""


def steps() -> list[tuple[str, Callable[[], bool], Callable[[], None]]]:
    """Return each step's title, whether it is needed, and what it does."""
    return [
        ("Creating .venv", lambda: not python().exists(), create_venv),
        (
            f"Installing {TORCH} (CPU)",
            lambda: not stamped("torch", TORCH),
            lambda: pip("torch", TORCH, *torch_index(), TORCH),
        ),
        (
            f"Installing {locked_packages()} locked packages: Ray Serve, vLLM for CPU, tools (some minutes)",
            lambda: not stamped("lock", lock_digest()),
            lambda: pip(
                "lock", lock_digest(), "--no-deps", "--require-hashes", "-r", "requirements/dev.lock"
            ),
        ),
        (
            "Installing this project (editable)",
            lambda: not stamped("project", project_digest()),
            lambda: pip("project", project_digest(), "--no-deps", "--no-build-isolation", "-e", "."),
        ),
        (
            "Rebuilding the Harmony vocabulary offline",
            lambda: not (CACHE / "vocabulary" / "o200k_base.tiktoken").exists(),
            build_vocabulary,
        ),
        (
            "Assembling the tiny gpt-oss checkpoint",
            lambda: (
                not (CACHE / "tiny-gptoss" / "manifest.json").exists() or not stamped("model", model_digest())
            ),
            build_model,
        ),
    ]


def check_machine() -> None:
    """Refuse a wrong Python and too little disk before anything is installed."""
    if sys.version_info[:2] not in {(3, 11), (3, 12)}:
        raise SetupError(
            f"Python 3.11 or 3.12 is needed, this is {sys.version.split()[0]}. "
            "Name one: make setup PYTHON=/path/to/python3.11"
        )
    free = shutil.disk_usage(ROOT).free / 2**30
    if not python().exists() and free < NEEDED_GIB:
        raise SetupError(f"{ROOT} has {free:.1f} GiB free; the environment needs {NEEDED_GIB} GiB.")


def create_venv() -> None:
    """Create the virtual environment."""
    run([sys.executable, "-m", "venv", str(VENV)])


def pip(stamp: str, value: str, *arguments: str) -> None:
    """Install with pip, showing the package at hand, and remember that it was done."""
    run([str(python()), "-m", "pip", "install", "--progress-bar=off", *arguments])
    (VENV / f".done-{stamp}").write_text(value)


def torch_index() -> list[str]:
    """Return pip's flags for the index of CPU builds, when the environment names one."""
    url = os.environ.get("TORCH_INDEX_URL")
    return ["--index-url", url] if url else []


def build_vocabulary() -> None:
    """Decode the vocabulary out of oss-harmony, whose wheel carries it, and check its SHA-256.

    It shares openai-harmony's module name, so it gets a folder of its own.
    """
    harmony = CACHE / "oss-harmony"
    lock = ["--no-deps", "--require-hashes", "-r", "requirements/vocabulary.lock"]
    run([str(python()), "-m", "pip", "install", "--upgrade", "--target", str(harmony), *lock])
    command("demo-model", "vocabulary", str(CACHE / "vocabulary"), "--harmony-dir", str(harmony))


def build_model() -> None:
    """Assemble the checkpoint from the trained part in the repository."""
    command("demo-model", "build", str(CACHE / "tiny-gptoss"), "--vocabulary-dir", str(CACHE / "vocabulary"))
    (VENV / ".done-model").write_text(model_digest())


def command(*arguments: str) -> None:
    """Run the project's own command."""
    run([str(VENV / "bin" / "gpt-oss-cluster"), *arguments])


def run(arguments: list[str]) -> None:
    """Run one command with its output in the log; show a moving line on a terminal."""
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(arguments)}\n".encode())
        start = log.tell()
    with (
        LOG.open("ab") as log,
        subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None:
            time.sleep(0.5)
            show_progress(start)
    clear_line()
    if process.returncode != 0:
        tail = LOG.read_text(errors="replace").splitlines()[-15:]
        raise SetupError("\n".join([f"`{' '.join(arguments)}` failed:", *tail, f"The whole log: {LOG}"]))


def show_progress(start: int) -> None:
    """Overwrite the last line with the elapsed time and the package at hand; silent without a terminal."""
    if not sys.stderr.isatty():
        return
    with LOG.open("rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").splitlines()
    packages = [line for line in lines if re.match(r"(Collecting|Installing|Processing)", line.strip())]
    doing = packages[-1].strip()[:70] if packages else ""
    elapsed = time.monotonic() - STARTED
    print(f"\r\033[K[{elapsed:5.0f} s]   {doing}", end="", file=sys.stderr, flush=True)


def clear_line() -> None:
    """Take the moving line away."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print one step with the time since the start."""
    print(f"[{time.monotonic() - STARTED:5.0f} s] {text}", file=sys.stderr, flush=True)


def python() -> Path:
    """Return the environment's interpreter."""
    return VENV / "bin" / "python"


def stamped(name: str, value: str) -> bool:
    """Return whether a step was done for the present input."""
    stamp = VENV / f".done-{name}"
    return stamp.exists() and stamp.read_text() == value


def locked_packages() -> int:
    """Return how many packages the lock names."""
    return len(re.findall(r"^[a-z0-9].*==", (ROOT / "requirements" / "dev.lock").read_text(), re.MULTILINE))


def lock_digest() -> str:
    """Return the digest of the locked environment."""
    return hashlib.sha256((ROOT / "requirements" / "dev.lock").read_bytes()).hexdigest()


def project_digest() -> str:
    """Return the digest of what an editable install depends on."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def model_digest() -> str:
    """Return the digest of the checkpoint's sources."""
    sources = sorted((ROOT / "cluster" / "tinymodel").glob("*.*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
