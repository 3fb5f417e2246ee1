"""Progress of work on bytes: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

EVERY_S = 10.0
"""Time between two lines in a log."""


class Bar:
    """A bar that moves; for terminals."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def begin(self, title: str, total_bytes: int) -> None:
        """Begin a stretch of work with a bar of its own."""
        self._task = self._progress.add_task(title, total=total_bytes)

    def advance(self, count_bytes: int) -> None:
        """Count bytes; below 0 they have to be done again."""
        if self._task is not None:
            self._progress.advance(self._task, count_bytes)

    def __enter__(self) -> Self:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave it as it stands."""
        self._progress.stop()


class Lines:
    """A line each ten seconds, and one when a stretch is done; for logs."""

    def __init__(self, say: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._title, self._total, self._done = "", 0, 0
        self._began = self._told = 0.0

    def begin(self, title: str, total_bytes: int) -> None:
        """Begin a stretch of work."""
        self._title, self._total, self._done = title, total_bytes, 0
        self._began = self._told = self._clock()

    def advance(self, count_bytes: int) -> None:
        """Count bytes, and tell when it is time to."""
        self._done += count_bytes
        now = self._clock()
        if now - self._told >= EVERY_S or (self._done == self._total and count_bytes):
            self._told = now
            share = self._done / self._total if self._total else 1.0
            rate = self._done / max(now - self._began, 1e-3) / 2**20
            amount = f"{self._done / 2**30:.2f} of {self._total / 2**30:.2f} GiB ({share:.0%})"
            self._say(f"{self._title}: {amount}, {rate:.0f} MiB/s")

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Lines need no end."""


def for_console(console: Console) -> Bar | Lines:
    """Return the kind that suits ``console``."""
    if console.is_terminal:
        return Bar(console)
    return Lines(lambda line: console.print(line, highlight=False, soft_wrap=True))
