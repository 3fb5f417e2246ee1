"""What a dying engine said: the end of its logs, without the frames of its tracebacks."""

import re
from pathlib import Path

TAIL_BYTES = 64 * 1024
LINES = 15
"""Lines kept of each log; vLLM repeats one error in three processes."""
STREAMS = {"log": Path("/proc/self/fd/1"), "errors": Path("/proc/self/fd/2")}
"""This process's outputs, which Ray sends to files and vLLM's processes share: its log, and what kills it."""

_prefix = r"^(\([^)]*\) ?)?(ERROR \S+ \S+ \[[^]]*\] )?"
_frame = re.compile(rf"{_prefix}(\s\s|Traceback |Process |\s*$)|^:|it/s\]")
"""Frames and carets of tracebacks behind vLLM's prefixes, Ray's own marks, progress bars, empty lines."""


def essence(log: str) -> str:
    """Return the last lines of ``log`` that say something."""
    kept = [line for line in log.splitlines() if not _frame.search(line)]
    return "\n".join(kept[-LINES:])


def of_this_process() -> str:
    """Return the last words in both outputs of this process and of those that share them."""
    return "\n".join(f"[{name}]\n{essence(_tail(stream.readlink()))}" for name, stream in STREAMS.items())


def _tail(path: Path) -> str:
    if not path.is_file():
        return f"(not in a file, but on {path})"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
