"""Where files come from: a directory, or a web server that holds the same tree.

`HttpSource` is ``urllib``: it follows the proxy settings of the environment.
"""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from deploy.bundle.errors import BundleError, MissingError, SourceError, UnreachableError

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60.0
"""How long a server may be silent."""


@dataclass(frozen=True, slots=True)
class Stat:
    """A file as its source knows it."""

    size: int | None
    version: str | None
    """Changes when the content does: an ETag, or a time of change. None: the source tells no such thing."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is being read."""

    start: int
    """Offset of the first byte that ``chunks`` yields; 0 where the source would not begin as asked."""
    chunks: Iterator[bytes]


class Source(Protocol):
    """A tree of files that can be read from any offset."""

    def where(self, name: str) -> str:
        """Return a file's whole path or address, for messages."""
        ...

    def stat(self, name: str) -> Stat:
        """Return what is known of a file. Raises `MissingError`, `SourceError`, `UnreachableError`."""
        ...

    def open(self, name: str, offset: int, version: str | None) -> AbstractContextManager[Opened]:
        """Open a file at ``offset``, as long as it still is ``version``. Raises as `stat` does."""
        ...


class DirectorySource:
    """Files below a directory."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise SourceError(f"{root}: no such directory")
        self._root = root

    def where(self, name: str) -> str:
        """Return the file's path."""
        return str(self._root / name)

    def stat(self, name: str) -> Stat:
        """Return size and time of change."""
        try:
            found = (self._root / name).stat()
        except OSError as error:
            raise MissingError(f"{self.where(name)}: {error.strerror}") from error
        return Stat(found.st_size, str(found.st_mtime_ns))

    @contextmanager
    def open(self, name: str, offset: int, version: str | None) -> Iterator[Opened]:
        """Open the file at ``offset``, or at 0 if it changed meanwhile."""
        start = offset if self.stat(name).version == version else 0
        try:
            file = (self._root / name).open("rb")
        except OSError as error:
            raise SourceError(f"{self.where(name)}: {error.strerror}") from error
        with file:
            file.seek(start)
            yield Opened(start, iter(lambda: file.read(CHUNK_BYTES), b""))


class HttpSource:
    """Files below an address: any web server, or a bucket that may be read without a signature.

    ``headers`` (an ``Authorization``) go to this server alone, never to one that it redirects to.
    """

    def __init__(
        self, base: str, *, ca_file: Path | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        if urlsplit(base).scheme not in ("http", "https"):
            raise SourceError(f"{base}: neither a directory nor an http(s) address")
        self._base = base.rstrip("/")
        self._headers = dict(headers or {})
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=_context(ca_file)),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def where(self, name: str) -> str:
        """Return the file's address."""
        return f"{self._base}/{quote(name)}"

    def stat(self, name: str) -> Stat:
        """Ask for the file's head."""
        with self._ask(name, {}, method="HEAD") as response:
            return _stat(response.headers)

    @contextmanager
    def open(self, name: str, offset: int, version: str | None) -> Iterator[Opened]:
        """Ask for the file from ``offset`` on, under the condition that it did not change."""
        resume = offset > 0 and version is not None
        asked = {"Range": f"bytes={offset}-", "If-Range": version} if resume and version else {}
        with self._ask(name, asked) as response:
            start = _start(response.headers) if response.status == 206 else 0
            yield Opened(start, self._chunks(response, name))

    def _chunks(self, response: HTTPResponse, name: str) -> Iterator[bytes]:
        try:
            while chunk := response.read(CHUNK_BYTES):
                yield chunk
        except (OSError, HTTPException) as error:
            raise UnreachableError(
                f"{self.where(name)}: the connection broke ({error or type(error).__name__})"
            ) from error

    @contextmanager
    def _ask(self, name: str, headers: Mapping[str, str], method: str = "GET") -> Iterator[HTTPResponse]:
        request = urllib.request.Request(self.where(name), method=method)  # noqa: S310 - http(s), checked above
        request.add_header("Accept-Encoding", "identity")
        for header, value in headers.items():
            request.add_header(header, value)
        for header, value in self._headers.items():
            request.add_unredirected_header(header, value)
        try:
            response = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise _refused(self.where(name), error.code) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error) or type(error).__name__
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise SourceError(
                    f"{self.where(name)}: {reason.verify_message}: name the right authority with --ca-file"
                ) from error
            raise UnreachableError(f"{self.where(name)}: {reason}") from error
        with response:
            yield response


def source_at(where: str, *, ca_file: Path | None = None, token_file: Path | None = None) -> Source:
    """Return the source at a directory's path or an http(s) address. Raises `SourceError`."""
    if "://" not in where:
        return DirectorySource(Path(where))
    try:
        headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}
    except OSError as error:
        raise SourceError(f"{token_file}: {error.strerror}") from error
    return HttpSource(where, ca_file=ca_file, headers=headers)


def _refused(where: str, status: int) -> BundleError:
    if status in (404, 410):
        return MissingError(f"{where}: not there ({status})")
    if status in (401, 403):
        return SourceError(f"{where}: access refused ({status}); give credentials with --token-file")
    if status in (408, 425, 429) or status >= 500:
        return UnreachableError(f"{where}: the server answered {status}")
    return SourceError(f"{where}: the server answered {status}")


def _stat(headers: Message) -> Stat:
    length = headers.get("Content-Length", "")
    tag = headers.get("ETag")
    strong = tag if tag and not tag.startswith("W/") else None
    return Stat(int(length) if length.isdigit() else None, strong or headers.get("Last-Modified"))


def _start(headers: Message) -> int:
    """Return where a partial answer begins (RFC 9110: ``Content-Range: bytes 5-9/10``)."""
    return int(headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").split("-")[0])


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"{ca_file}: no certificates that can be read ({error})") from error
