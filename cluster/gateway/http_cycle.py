"""One request and its response on a connection: ASGI's ``receive`` and ``send``.

uvicorn's own checks each response header with two regular expressions; the headers here are all ours, so one
count of line breaks over the whole head does instead.
"""

from itertools import chain
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGIReceiveEvent,
        ASGISendEvent,
        HTTPResponseBodyEvent,
        HTTPResponseStartEvent,
    )

    from cluster.gateway.http_errors import RequestFailed

_CLOSE = (b"connection", b"close")
_CHUNKED = (b"transfer-encoding", b"chunked")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Cycle(RequestResponseCycle):
    """uvicorn's cycle, with a body that can fail and a leaner ``send``.

    It never closes the connection at the end of a response: `HardenedProtocol.on_response_complete` does.
    """

    failure: "RequestFailed | None" = None

    def fail(self, failure: "RequestFailed") -> None:
        """Let ``receive`` raise ``failure`` in place of the rest of the body, and close after the answer."""
        self.failure, self.keep_alive = failure, False
        self.message_event.set()

    def leave(self) -> None:
        """Tell the application that the client is gone."""
        if not self.response_complete:
            self.disconnected = True
        self.message_event.set()

    async def receive(self) -> "ASGIReceiveEvent":
        """Return the next part of the body, or that the client is gone. Raises the body's failure."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(_CONTINUE)
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        if self.failure is not None:
            raise self.failure
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: "ASGISendEvent") -> None:
        """Write the head or a part of the body, once the client has read enough of what went before."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError("sent after the end of the response")
        if self.response_started:
            self._write_body(cast("HTTPResponseBodyEvent", message))
        else:
            self._write_head(cast("HTTPResponseStartEvent", message))

    def _write_head(self, message: "HTTPResponseStartEvent") -> None:
        self.response_started, self.waiting_for_100_continue = True, False
        headers = [*self.default_headers, *message.get("headers", ())]
        for name, value in headers:
            if name == b"content-length":
                self.chunked_encoding, self.expected_content_length = False, int(value)
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
        if not self.keep_alive and _CLOSE not in headers:
            headers.append(_CLOSE)
        if self.chunked_encoding is None and self.scope["http_version"] != "1.0":
            self.chunked_encoding = True
            headers.append(_CHUNKED)
        lines = len(headers)
        head = (b"%b" + b"%b: %b\r\n" * lines + b"\r\n") % (
            STATUS_LINE[message["status"]],
            *chain.from_iterable(headers),
        )
        if not head.count(b"\n") == head.count(b"\r") == lines + 2:
            raise RuntimeError("a response header holds a line break")
        self.transport.write(head)

    def _write_body(self, message: "HTTPResponseBodyEvent") -> None:
        body, more_body = message.get("body", b""), message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            if body:
                tail = b"\r\n" if more_body else b"\r\n0\r\n\r\n"
                self.transport.write(b"%x\r\n%b%b" % (len(body), body, tail))
            elif not more_body:
                self.transport.write(b"0\r\n\r\n")
        else:
            if self.chunked_encoding is False:
                self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the response is longer than its content-length")
            self.transport.write(body)
        if more_body:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("the response is shorter than its content-length")
        self.response_complete = True
        self.message_event.set()
        self.on_response()
