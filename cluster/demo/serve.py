"""The demo's serving process: a local Ray Serve that reports each step as a line of JSON on standard output.

A process of its own, so that the demo itself stays small, and Ray's output goes to a log.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from cluster import settings
from cluster.serving import local


def main(config: Path) -> int:
    """Start every pool of the settings document, report, and stay until told to end."""
    return stay(local.start(settings.load(config)))


def stay(start: Iterable[local.Progress]) -> int:
    """Report each step of a start, and stay until told to end; return the exit status of one that fails."""
    events = _own_output()
    try:
        for step in start:
            _tell(events, asdict(step))
        _tell(events, {"ready": True})
    except local.LocalStartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    signal.pause()
    return 0


def _own_output() -> TextIO:
    """Return the original standard output; whatever else is printed from here on goes to standard error."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return events


def _tell(events: TextIO, step: dict[str, object]) -> None:
    events.write(json.dumps(step) + "\n")
    events.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
