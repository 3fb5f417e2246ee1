"""A real gateway with bugs: a step of its flow fails on demand, and the error repeats what the client wrote.

Run as ``python -m tests.gateway.faulty_gateway CONFIG``. The header ``x-bug`` says which bug a request meets.
"""

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from cluster.core.request import Endpoint, ParsedRequest
from cluster.gateway import flow, server
from cluster.gateway.http_cycle import Cycle
from cluster.gateway.intake import header, read_request
from cluster.settings import load

BUG_HEADER = "x-bug"


def invalid(words: str) -> None:
    """Fail as pydantic does, which repeats its input."""
    TypeAdapter(int).validate_python(words)


def chained(words: str) -> None:
    """Fail because of a failure, and add a note."""
    try:
        raise KeyError(words)
    except KeyError as error:
        error.add_note(words)
        raise ExceptionGroup(words, [ValueError(words)]) from error


def forgotten_task(words: str) -> None:
    """Fail in a task that nobody waits for."""

    async def fail() -> None:
        raise ValueError(words)

    asyncio.get_running_loop().create_task(fail())


def callback(words: str) -> None:
    """Fail in a callback, whose arguments are the words."""
    asyncio.get_running_loop().call_soon(_fail, words)


def thread(words: str) -> None:
    """Fail in a thread."""
    threading.Thread(target=_fail, args=(words,)).start()


def finalizer(words: str) -> None:
    """Fail where an exception goes nowhere."""

    class Fragile:
        def __del__(self) -> None:
            _fail(words)

    Fragile()


def warning(words: str) -> None:
    """Warn."""
    warnings.warn(words, stacklevel=1)


def logging_itself(words: str) -> None:
    """Log a message that cannot be made."""
    logging.getLogger("library").error("%d", words)


def unwritable(words: str) -> None:
    """Log a message that is no Unicode."""
    logging.getLogger("library").error("\ud800 %d", len(words))


def _fail(words: str) -> None:
    raise RuntimeError(words)


BUGS: dict[str, Callable[[str], None]] = {
    bug.__name__: bug
    for bug in (
        invalid,
        chained,
        forgotten_task,
        callback,
        thread,
        finalizer,
        warning,
        logging_itself,
        unwritable,
    )
}
FATAL = {invalid.__name__, chained.__name__}
"""Bugs that end the request with `internal`; the others happen beside it."""


async def _read(cycle: Cycle, endpoint: Endpoint, *, limit: int) -> ParsedRequest:
    request = await read_request(cycle, endpoint, limit=limit)
    bug = header(cycle.scope, BUG_HEADER.encode())
    if bug is not None:
        BUGS[bug.decode()](str(request.fields["messages"][0]["content"]))
    return request


if __name__ == "__main__":
    flow.read_request = _read  # type: ignore[attr-defined]
    sys.exit(server.run(load(Path(sys.argv[1]))))
