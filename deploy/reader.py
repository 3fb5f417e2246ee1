"""Reading with whatever rights an account has: what it may not read is remembered, and told at the end."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from deploy.api import ApiError, MissingError, Object, UnreachableError

Answer = TypeVar("Answer")


class Reads(Protocol):
    """What reading takes of a Kubernetes API, such as `deploy.api.Api`. All of it raises `ApiError`."""

    @property
    def namespace(self) -> str:
        """The namespace that is read."""

    def get(self, path: str) -> Object:
        """Return the object at ``path``."""

    def all(self, path: str, **query: str) -> list[Object]:
        """Return a collection's objects."""

    def text(self, path: str, **query: str) -> str:
        """Return the text at ``path``."""


class Reader:
    """Reads what it may. Every method raises `UnreachableError`, and no other error."""

    def __init__(self, api: Reads) -> None:
        self._api = api
        self.unread: list[str] = []
        """What could not be read, and why."""

    @property
    def namespace(self) -> str:
        """The namespace that is read."""
        return self._api.namespace

    def one(self, path: str) -> Object | None:
        """Return an object; None where there is none or it may not be read."""
        return self.allowed(lambda: self._api.get(path))

    def all(self, path: str, **query: str) -> tuple[Object, ...] | None:
        """Return a collection; None where it may not be read, empty where there is no such kind."""

        def ask() -> tuple[Object, ...]:
            try:
                return tuple(self._api.all(path, **query))
            except MissingError:
                return ()

        return self.allowed(ask)

    def text(self, path: str, **query: str) -> str:
        """Return a text; empty where there is none or it may not be read."""
        return self.allowed(lambda: self._api.text(path, **query)) or ""

    def allowed(self, ask: Callable[[], Answer]) -> Answer | None:
        """Return an answer; None where there is none, or, which is remembered, where the API refuses."""
        try:
            return ask()
        except MissingError:
            return None
        except UnreachableError:
            raise
        except ApiError as error:
            self.unread.append(str(error))
            return None
