"""What the gateway needs from outside itself, as small protocols that it owns."""

from typing import Protocol

from cluster.core.limits import Ask, Refusal, Reservation
from cluster.stores.caller import Caller

__all__ = ["Caller", "KeyStore", "LimitStore"]


class KeyStore(Protocol):
    """Finds the caller of a token."""

    def find(self, token: str) -> Caller | None:
        """Return the caller whose live key ``token`` is, or None; every wrong token takes the same time."""

    def can_judge(self, token: str) -> bool:
        """Whether enough has been loaded to call ``token`` wrong where `find` does not know it."""

    @property
    def ready(self) -> bool:
        """Whether keys have been loaded."""


class LimitStore(Protocol):
    """Holds what requests reserve."""

    async def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Take all that ``ask`` wants in one step, or nothing."""

    def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Correct the reservation to the ``tokens`` used, refund or debt, and free its slot. Idempotent.

        A call and no coroutine, so that nothing can cancel it: bringing the settlement to wherever limits are
        kept, and trying again, is the store's own work.
        """
