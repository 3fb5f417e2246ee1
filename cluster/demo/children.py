"""The demo's own processes: started with a log each, watched, and never waited for in vain."""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 15


class DemoError(Exception):
    """The demo cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process of the demo."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Raise `DemoError` with the log's end when the process has ended."""
        status = self.process.poll()
        if status is None:
            return
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise DemoError(
            "\n".join([f"{self.name} ended with status {status}. Its last lines ({self.log}):", *lines])
        )


def spawn(name: str, log: Path, *arguments: str) -> Child:
    """Start ``python -m arguments`` in a session of its own, so that Ctrl-C reaches only the demo."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    return Child(name, process, log)


def lines(child: Child, others: list[Child], *, limit_s: float) -> Iterator[bytes | None]:
    """Yield ``child``'s output line by line, and None about four times a second while there is none.

    Ends with the output. Raises `DemoError` when a process ends or ``limit_s`` seconds have passed.
    """
    output = child.process.stdout
    if output is None:
        raise ValueError(f"{child.name} was started without a pipe")
    deadline, rest = time.monotonic() + limit_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            for other in others:
                other.check()
            if not selector.select(timeout=0.25):
                yield None
            elif data := os.read(output.fileno(), 65536):  # not readline: it reads ahead of the selector
                *whole, rest = (rest + data).split(b"\n")
                yield from whole
            else:
                child.process.wait()
                child.check()
    raise DemoError(f"{child.name} was not ready after {limit_s:.0f} s. Its log: {child.log}")
