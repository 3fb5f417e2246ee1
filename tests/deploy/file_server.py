"""A web server over a directory, with Range, and with the faults that a test orders."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote


@dataclass
class FileServer:
    """What the server does, and what it was asked."""

    root: Path
    url: str = ""
    cuts: list[int] = field(default_factory=list)
    """Each of the next bodies of GETs ends after so many bytes, with the connection."""
    statuses: list[int] = field(default_factory=list)
    """Each of the next GETs gets this status; 0 is a usual answer."""
    ranges: bool = True
    tags: bool = True
    """Whether it sends an ETag."""
    weak_tags: bool = False
    """Whether its ETags promise no equal bytes (RFC 9110), so that half a file says nothing of the other."""
    token: str | None = None
    """The bearer token that it demands."""
    redirect_to: str | None = None
    """The server that GETs of files are sent on to."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Range of each request."""
    authorizations: list[str | None] = field(default_factory=list)

    def gets(self, ending: str = "") -> list[str | None]:
        """Return the Range of each GET for a path with this ending."""
        return [asked for method, path, asked in self.asked if method == "GET" and path.endswith(ending)]


@contextmanager
def serving(root: Path, tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """Serve ``root`` on loopback, over TLS if there is a context for it."""
    state = FileServer(root)

    class Handler(_Handler):
        server_state = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_state: ClassVar[FileServer]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        state = self.server_state
        asked = self.headers.get("Range")
        state.asked.append((self.command, self.path, asked))
        state.authorizations.append(self.headers.get("Authorization"))
        if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
            self.send_error(401)
            return
        if body and state.statuses and (status := state.statuses.pop(0)):
            self.send_error(status)
            return
        if state.redirect_to:
            self.send_response(302)
            self.send_header("Location", state.redirect_to + self.path)
            self.end_headers()
            return
        path = state.root / unquote(self.path).lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        self._send(path, asked if state.ranges else None, body=body)

    def _send(self, path: Path, asked: str | None, *, body: bool) -> None:
        state, data = self.server_state, path.read_bytes()
        tag = f'"{path.stat().st_mtime_ns:x}"'
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start and self.headers.get("If-Range") == tag:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            start = 0
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        if state.tags:
            self.send_header("ETag", f"W/{tag}" if state.weak_tags else tag)
        self.end_headers()
        if body:
            end = start + state.cuts.pop(0) if state.cuts else len(data)
            self.wfile.write(data[start:end])
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
