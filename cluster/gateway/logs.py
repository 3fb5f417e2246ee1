"""Logs: lines that never block the event loop, and never carry a prompt, an answer or a secret."""

import logging
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson

from cluster.settings import LoggingSettings

MAX_WAITING_LINES = 100_000
"""Lines kept while whoever reads standard output is slow; further ones are counted and lost."""
_GATHER_S = 0.05
"""Seconds over which lines are gathered into one write."""


class LineWriter:
    """Writes lines to ``stream`` from a thread of its own."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line, without its newline. Never waits."""
        if len(self._lines) >= MAX_WAITING_LINES:
            self._lost += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued, for at most ``timeout_s`` seconds, and end the thread."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(_GATHER_S)
            self._wake.clear()
            self._flush()

    def _flush(self) -> None:
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._lost:
            batch.append(orjson.dumps({"log": "lost", "lines": self._lost}))
            self._lost = 0
        if not batch:
            return
        try:
            self._stream.write(b"\n".join(batch) + b"\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads: there is nowhere to say so but the next line
            self._lost += len(batch)


class Log:
    """Renders records as JSON or text, one line each."""

    def __init__(self, writer: LineWriter, settings: LoggingSettings) -> None:
        self._writer, self._json = writer, settings.format == "json"

    def record(self, kind: str, fields: dict[str, Any]) -> None:
        """Write a record of ``kind`` (``usage``, ``audit``, ``log``)."""
        if self._json:
            self._writer.write(orjson.dumps({"log": kind, **fields}))
        else:
            words = (f"{key}={value}" for key, value in fields.items() if value not in (None, {}))
            self._writer.write(" ".join([kind, *words]).replace("\n", "\\n").encode())


class LogHandler(logging.Handler):
    """Sends Python's log records to a `Log`.

    Of an exception it keeps its types and places: messages can repeat a client's input.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        fields: dict[str, Any] = {
            "ts": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = describe(record.exc_info[1])
        self._log.record("log", fields)


def describe(error: BaseException) -> list[str]:
    """Return an exception's types and places, innermost last, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    cause = describe(error.__cause__) if error.__cause__ is not None else []
    return [*cause, *own, type(error).__qualname__]


def timestamp(epoch_s: float) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def all_logging_to(log: Log, settings: LoggingSettings) -> Iterator[None]:
    """Send all of Python's logging to ``log`` for the length of the context."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = [LogHandler(log)]
    root.setLevel(settings.level.upper())
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
