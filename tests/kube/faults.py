"""Faults that a test orders: refusals, dropped connections, silence, slow watches."""

import threading
from dataclasses import dataclass

from tests.kube.access import Action
from tests.kube.status import ApiError


@dataclass
class Fault:
    """What happens to the next requests that fit."""

    error: ApiError | None
    """None: the connection is dropped without an answer."""
    times: int
    verb: str | None = None
    resource: str | None = None

    def fits(self, action: Action) -> bool:
        """Whether it is meant for a request."""
        return self.verb in (None, action.verb) and self.resource in (None, action.resource)


class DroppedError(Exception):
    """The connection shall end without an answer."""


class Faults:
    """The faults that are still to happen."""

    def __init__(self) -> None:
        self.hanging = False
        self.break_after_write = False
        self.watch_delay_s = 0.0
        self.watch_end_s = 1800.0
        self._ordered: list[Fault] = []
        self._lock = threading.Lock()

    def order(self, fault: Fault) -> None:
        """Let it happen."""
        with self._lock:
            self._ordered.append(fault)

    def meet(self, action: Action) -> None:
        """Raise `ApiError` or `DroppedError` where one is meant for a request."""
        with self._lock:
            fault = next((fault for fault in self._ordered if fault.fits(action)), None)
            if fault is None:
                return
            fault.times -= 1
            if fault.times <= 0:
                self._ordered.remove(fault)
        if fault.error is None:
            raise DroppedError
        raise fault.error

    @property
    def left(self) -> int:
        """How many have not happened yet."""
        with self._lock:
            return sum(fault.times for fault in self._ordered)
