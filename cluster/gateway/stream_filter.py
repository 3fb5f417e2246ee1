"""What the two kinds of stream have in common on their way to the client."""

from abc import ABC, abstractmethod

from cluster.core.accounting import Usage
from cluster.core.engine import EngineLoad, parse_usage
from cluster.gateway.engine_errors import answer_cut
from cluster.gateway.harmony import ControlTokenGuard
from cluster.gateway.http_errors import RequestFailed


class StreamFilter(ABC):
    """Takes an engine's events one by one and gives what the client may see of them.

    An opening that says nothing yet, and text that may be the start of a control token, are held back until
    something follows: the first so that a failure can still be retried or keep its own status.
    """

    def __init__(self) -> None:
        self._guard, self._suspect = ControlTokenGuard(), False
        self._held: list[bytes] = []
        self._out: list[bytes] = []
        self.usage: Usage | None = None
        """Tokens so far, as the engine last told."""
        self.load: EngineLoad | None = None
        """The replica's load, as last told; whoever reads it takes it."""
        self.started = False
        """Whether the engine has begun to generate."""
        self.answered = False
        """Whether content or a call has come."""
        self.done = False
        """Whether the stream has ended as it should."""

    def feed(self, event: bytes) -> None:
        """Take one whole event. Raises `RequestFailed` when it is an error or holds a control token."""
        if not event.startswith(b":"):
            self._event(event)
        elif told := parse_usage(event):
            self.started = True
            self.load = told.load
            self.usage = Usage(prompt=told.prompt, reasoning=told.reasoning, answer=told.answer)

    def known(self, chunk: bytes) -> bytes:
        """Return what the client sees of a chunk that is one event of a form seen before.

        Empty for any other chunk, which must be fed. A known one changes nothing that is told here.
        """
        del chunk
        return b""

    def take(self) -> bytes:
        """Return what may be sent now, and forget it."""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    def end(self) -> None:
        """Take the end of the engine's stream. Raises `EngineFailed` when it came too early."""
        if not self.done:
            raise answer_cut()

    @abstractmethod
    def failure_event(self, failure: RequestFailed) -> bytes:
        """Return the event that ends a stream that has begun and cannot go on."""

    @abstractmethod
    def _event(self, event: bytes) -> None:
        """Take one event that is no comment."""

    def _emit(self, event: bytes, *, hold: bool = False) -> None:
        if hold:
            self._held.append(event)
            return
        if self._held:
            self._out += self._held
            self._held.clear()
        self._out.append(event)
