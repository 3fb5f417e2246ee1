"""Progress of a start that takes a minute: one line per step done, one moving line for the step at hand."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console


class Progress:
    """Steps with their elapsed time; a moving line on a terminal, a line every 10 seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._status = console.status("")
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def done(self, text: str) -> None:
        """Print a finished step."""
        self._console.print(f"[dim]\\[{self.elapsed_s:4.0f} s][/dim] {text}", highlight=False)
        self._shown_at = time.monotonic()

    def doing(self, text: str) -> None:
        """Show the step at hand."""
        if self._console.is_terminal:
            self._status.update(f"[dim]\\[{self.elapsed_s:4.0f} s][/dim] {text}")
        elif time.monotonic() - self._shown_at >= 10:
            self.done(f"… {text}")
