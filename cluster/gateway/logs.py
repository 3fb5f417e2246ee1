"""Logs: lines that never block the event loop, and never carry a prompt, an answer or a secret."""

import asyncio
import logging
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO

import orjson

from cluster.settings import LoggingSettings

logger = logging.getLogger(__name__)

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
        self.on_lost: Callable[[int], None] = lambda _: None
        """Told how many lines are lost, in any thread."""
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line, without its newline. Never waits."""
        if len(self._lines) >= MAX_WAITING_LINES:
            self._lose(1)
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
        batch, lost = [self._lines.popleft() for _ in range(len(self._lines))], self._lost
        lines = [*batch, orjson.dumps({"log": "lost", "lines": lost})] if lost else batch
        if not lines:
            return
        try:
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads: the next line that is read says so
            self._lose(len(batch))
        else:
            self._lost -= lost

    def _lose(self, lines: int) -> None:
        self._lost += lines
        self.on_lost(lines)


class Log:
    """Renders records as JSON or text, one line each."""

    def __init__(self, writer: LineWriter, settings: LoggingSettings) -> None:
        self._writer, self._json = writer, settings.format == "json"

    def watch_lost(self, on_lost: Callable[[int], None]) -> None:
        """Tell ``on_lost``, in any thread, how many lines are lost whenever some are."""
        self._writer.on_lost = on_lost

    def record(self, kind: str, fields: dict[str, Any]) -> None:
        """Write a record of ``kind`` (``usage``, ``audit``, ``log``)."""
        if self._json:
            self._writer.write(orjson.dumps({"log": kind, **fields}))
        else:
            words = (f"{key}={value}" for key, value in fields.items() if value not in (None, {}))
            self._writer.write(_printable(" ".join([kind, *words])).encode())


class LogHandler(logging.Handler):
    """Sends Python's log records to a `Log`.

    Of an exception it keeps its types and places: messages can repeat a client's input.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Never raises: a bad message must not fail the request that it is about."""
        try:
            message = _unicode(record.getMessage())
        except Exception:  # its words and arguments do not fit
            message = f"{record.pathname}:{record.lineno} logged a message that cannot be made"
        fields: dict[str, Any] = {
            "ts": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
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
    second, milliseconds = divmod(int(epoch_s * 1000), 1000)
    return f"{_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@contextmanager
def all_logging_to(log: Log, settings: LoggingSettings) -> Iterator[None]:
    """Send all of Python's logging to ``log`` for the length of the context, and what it writes to stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    hooks = warnings.showwarning, sys.unraisablehook, threading.excepthook
    root.handlers = [LogHandler(log)]
    root.setLevel(settings.level.upper())
    warnings.showwarning, sys.unraisablehook, threading.excepthook = _warned, _unraisable, _thread_failed
    try:
        yield
    finally:
        warnings.showwarning, sys.unraisablehook, threading.excepthook = hooks
        root.handlers = handlers
        root.setLevel(level)


def loop_failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what failed in the event loop and nowhere else; its own words repeat the arguments of callbacks."""
    error = context.get("exception")
    logger.error(context["message"] if error is None else "the event loop met an exception", exc_info=error)


def _warned(*what: Any, **_: Any) -> None:
    _, category, filename, lineno = what[:4]
    logger.warning("%s at %s:%d", category.__qualname__, filename, lineno)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    logger.error("an exception could not be raised", exc_info=what.exc_value)


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    logger.error("a thread ended with an exception", exc_info=what.exc_value)


def _unicode(text: str) -> str:
    """Return ``text`` without halves of surrogate pairs, which cannot be written."""
    return text.encode(errors="backslashreplace").decode()


def _printable(text: str) -> str:
    """Return ``text`` on one line, with nothing that a terminal would act on."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
