"""Bytes that no HTTP client sends: each probe gets its wanted outcome, and a good request succeeds after it.

One gateway serves all of them, as it would an attacker.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cluster.gateway.http_protocol import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    MAX_TARGET_BYTES,
)
from tests.gateway.conftest import KEY, World, chat_body, running
from tests.gateway.raw import Answer, RawClient, connect
from tests.gateway.upstream import (
    ROLE,
    STREAM_HEAD,
    Connection,
    chunk,
    completion,
    good_stream,
    respond,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD_S, BODY_S, IDLE_S = 0.3, 0.4, 0.6
"""The gateway's time-outs, short enough for a test."""
LATE_S = 0.5
"""Most seconds after its time that a connection may end."""
MAX_BODY = 50_000

BODY = json.dumps(chat_body()).encode()
AUTH = b"Authorization: Bearer " + KEY.encode()
CHAT = b"POST /v1/chat/completions HTTP/1.1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    """Return a gateway with short time-outs that all tests here share."""
    http = {"header_timeout_s": HEAD_S, "body_timeout_s": BODY_S, "idle_timeout_s": IDLE_S}
    async with running(gateway={"http": http, "max_body_bytes": MAX_BODY}) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def _good_request_after(world: World) -> AsyncIterator[None]:
    """Whatever a probe did, the next client is served."""
    world.upstream.then(respond(200, completion()))
    while not world.ended.empty():
        world.ended.get_nowait()
    yield
    world.upstream.then(respond(200, completion()))
    client = await connect(world.url)
    await client.send(request())
    assert (await client.answer()).status == 200
    await client.close()


def request(
    *headers: bytes, line: bytes = CHAT, body: bytes | None = BODY, host: bytes = b"Host: gateway:8080"
) -> bytes:
    """Return a request; empty headers are left out, ``body`` None: no length and no body."""
    length = b"" if body is None else b"Content-Length: %d" % len(body)
    lines = [line, host, AUTH, b"Content-Type: application/json", length, *headers]
    return b"\r\n".join([one for one in lines if one]) + b"\r\n\r\n" + (body or b"")


def chunked(*chunks: bytes, headers: tuple[bytes, ...] = ()) -> bytes:
    """Return a request with a chunked body that consists of ``chunks``, framing and all."""
    return request(b"Transfer-Encoding: chunked", *headers, body=None) + b"".join(chunks)


def framed(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def invalid(world: World) -> float:
    """Return how many requests were counted as invalid; a head that is refused has no tenant yet."""
    sample = 'gptoss_requests_total{{effort="none",model="none",outcome="invalid",tenant="{}"}}'
    return world.metric(sample.format("none")) + world.metric(sample.format("acme"))


async def probe(world: World, data: bytes) -> tuple[RawClient, Answer]:
    """Send bytes and return the answer."""
    client = await connect(world.url)
    await client.send(data)
    return client, await client.answer()


LAST = b"0\r\n\r\n"
MALFORMED, HOST, UPGRADE = "malformed_http", "invalid_host", "upgrade_not_supported"

REFUSED: dict[str, tuple[bytes, int, str]] = {
    "cl-and-te": (chunked(LAST, headers=(b"Content-Length: 5",)), 400, MALFORMED),
    "te-and-cl": (request(b"Transfer-Encoding: chunked", body=LAST), 400, MALFORMED),
    "two-equal-cls": (request(b"Content-Length: %d" % len(BODY)), 400, MALFORMED),
    "two-cls": (request(b"Content-Length: 5"), 400, MALFORMED),
    "cl-list": (request(b"Content-Length: 5, 5", body=None) + b"hello", 400, MALFORMED),
    "cl-plus": (request(b"Content-Length: +5", body=None) + b"hello", 400, MALFORMED),
    "cl-minus": (request(b"Content-Length: -1", body=None), 400, MALFORMED),
    "cl-hex": (request(b"Content-Length: 0x5", body=None) + b"hello", 400, MALFORMED),
    "cl-underscore": (request(b"Content-Length: 1_0", body=None), 400, MALFORMED),
    "cl-empty": (request(b"Content-Length:", body=None), 400, MALFORMED),
    "cl-5000-digits": (request(b"Content-Length: " + b"9" * 5000, body=None), 400, MALFORMED),
    "te-junk": (request(b"Transfer-Encoding: xchunked", body=None) + LAST, 400, MALFORMED),
    "te-gzip-chunked": (request(b"Transfer-Encoding: gzip, chunked", body=None) + LAST, 400, MALFORMED),
    "te-chunked-identity": (request(b"Transfer-Encoding: chunked, identity", body=None), 400, MALFORMED),
    "te-identity": (request(b"Transfer-Encoding: identity", body=None), 400, MALFORMED),
    "te-vertical-tab": (request(b"Transfer-Encoding: \x0bchunked", body=None) + LAST, 400, MALFORMED),
    "te-twice": (chunked(LAST, headers=(b"Transfer-Encoding: chunked",)), 400, MALFORMED),
    "te-in-1.0": (
        request(b"Transfer-Encoding: chunked", line=CHAT[:-1] + b"0", body=None) + LAST, 400, MALFORMED,
    ),
    "chunk-size-junk": (chunked(b"zz\r\nhello\r\n", LAST), 400, MALFORMED),
    "chunk-size-overflow": (chunked(b"f" * 20 + b"\r\nhello\r\n", LAST), 400, MALFORMED),
    "chunk-size-minus": (chunked(b"-5\r\nhello\r\n", LAST), 400, MALFORMED),
    "chunk-without-crlf": (chunked(b"5\r\nhelloX", LAST), 400, MALFORMED),
    "chunk-bare-lf": (chunked(b"5\nhello\n0\n\n"), 400, MALFORMED),
    "bare-lf": (request().replace(b"\r\n", b"\n"), 400, MALFORMED),
    "bare-lf-in-header": (request(b"x: y\nz: w"), 400, MALFORMED),
    "bare-cr-in-header": (request(b"x: y\rz"), 400, MALFORMED),
    "nul-in-header": (request(b"x: y\0z"), 400, MALFORMED),
    "nul-in-request-id": (request(b"x-request-id: a\0b"), 400, MALFORMED),
    "lf-in-request-id": (request(b"x-request-id: a\nset-cookie: b"), 400, MALFORMED),
    "obs-fold": (request(b"x: y\r\n z"), 400, MALFORMED),
    "fold-first": (request(host=b" Host: a"), 400, MALFORMED),
    "space-before-colon": (request(b"x : y"), 400, MALFORMED),
    "space-before-colon-of-cl": (request(b"Content-Length : 5", body=None) + b"hello", 400, MALFORMED),
    "no-header-name": (request(b": y"), 400, MALFORMED),
    "no-colon": (request(b"xy"), 400, MALFORMED),
    "no-host": (request(host=b""), 400, HOST),
    "two-hosts": (request(b"Host: gateway:8080"), 400, HOST),
    "two-hosts-of-1.0": (request(b"Host: other", line=CHAT[:-1] + b"0"), 400, HOST),
    "host-empty": (request(host=b"Host:"), 400, HOST),
    "host-with-path": (request(host=b"Host: a/health?y="), 400, HOST),
    "host-with-user": (request(host=b"Host: u@a"), 400, HOST),
    "host-list": (request(host=b"Host: a, b"), 400, HOST),
    "host-with-space": (request(host=b"Host: a b"), 400, HOST),
    "host-bad-port": (request(host=b"Host: a:http"), 400, HOST),
    "host-long-port": (request(host=b"Host: a:800000"), 400, HOST),
    "host-not-ascii": (request(host=b"Host: \xff\xfe"), 400, HOST),
    "host-open-bracket": (request(host=b"Host: [::1"), 400, HOST),
    "host-long": (request(host=b"Host: " + b"a" * 254), 400, HOST),
    "absolute-form": (request(line=b"POST http://other/v1/chat/completions HTTP/1.1"), 400, MALFORMED),
    "authority-form": (b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n", 400, UPGRADE),
    "asterisk-form": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "http-0.9": (b"GET /v1/models\r\n\r\n", 400, MALFORMED),
    "http-0.9-named": (b"GET /v1/models HTTP/0.9\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "http-1.2": (b"GET /v1/models HTTP/1.2\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "http-2.0": (b"GET /v1/models HTTP/2.0\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "http-lower-case": (b"GET /v1/models http/1.1\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "pri-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, MALFORMED),
    "tls-hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, MALFORMED),
    "method-unknown": (b"FOO /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "method-lower-case": (b"get /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "nul-in-path": (b"GET /v1/models\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "space-in-path": (b"GET /v1/mod els HTTP/1.1\r\nHost: a\r\n\r\n", 400, MALFORMED),
    "path-not-ascii": ("GET /v1/modèls HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400, MALFORMED),
    "websocket": (
        request(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"), 400, UPGRADE,
    ),
    "websocket-get": (
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400, UPGRADE,
    ),
    "h2c": (
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAA"),
        400, UPGRADE,
    ),
    "url-long": (request(line=b"POST /v1/chat/completions?" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1"),
                 414, "url_too_long"),
    "url-100-kb": (b"GET /" + b"a" * 100_000, 414, "url_too_long"),
    "headers-16-kib": (request(b"x: " + b"y" * MAX_HEAD_BYTES), 431, "headers_too_large"),
    "header-70-kb": (request(b"x: " + b"y" * 70_000), 431, "headers_too_large"),
    "header-1-mb": (request(b"x: " + b"y" * 1_000_000), 431, "headers_too_large"),
    "header-without-end": (CHAT + b"\r\nx: " + b"y" * 100_000, 431, "headers_too_large"),
    "headers-10000": (request(*[b"x: y"] * 10_000), 431, "headers_too_large"),
    "headers-101": (request(*[b"x%d: y" % n for n in range(MAX_HEADERS - 3)]), 431, "headers_too_large"),
    "trailers-without-end": (chunked(framed(BODY), b"0\r\nx: " + b"y" * 400_000), 400, MALFORMED),
    "chunk-extensions-without-end": (chunked(b"5;" + b"e" * 800_000), 400, MALFORMED),
    "body-declared-too-large": (request(b"Content-Length: %d" % (MAX_BODY + 1), body=None), 413,
                                "request_too_large"),
    "body-too-large": (request(body=b" " * (MAX_BODY + 1)), 413, "request_too_large"),
    "body-1-mb-too-large": (request(body=b" " * 1_000_000), 413, "request_too_large"),
    "body-chunked-too-large": (chunked(*[framed(b" " * 1000)] * 60), 413, "request_too_large"),
    "expect-too-large": (
        request(b"Expect: 100-continue", b"Content-Length: %d" % (MAX_BODY + 1), body=None), 413,
        "request_too_large",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request(world: World, name: str) -> None:
    """It gets its status in OpenAI's envelope, is counted and logged once, and its connection ends."""
    data, status, code = REFUSED[name]
    counted = invalid(world)
    client, answer = await probe(world, data)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers["connection"] == "close"
    assert client.informed == []
    assert await client.ended() == b""
    line = await world.usage()
    assert (line["outcome"], line["status"]) == ("invalid", status)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert invalid(world) == counted + 1
    assert world.ended.empty()
    await client.close()


NOWHERE = [
    "/v1/../admin", "/v1/%2e%2e%2fadmin", "/v1/models/../chat/completions", "/v1/%6dodels", "/v1%2fmodels",
    "/v1//models", "//v1/models", "/v1/./models", "/v1/models;x", "/v1;x/models", "/v1\\models",
    "/v1/models.", "/v1/models%00", "/V1/models", "/v1/Models", "/v1/models/",
    "/v1/models/.", "/v1/models/..%2fx",
    "/v1/models/gpt%2Doss-20b", "/v1/models/gpt-oss-20b/", "/v1/models/%00", "/v1/models#x", "/", "/v1",
    "/v1/chat", "/v1/chat/completions/", "/metrics", "/livez", "/v1/models%3fx", "/v1/models%20",
]  # fmt: skip


@pytest.mark.parametrize("path", NOWHERE)
async def test_a_path_that_is_not_written_as_ours_is_404(world: World, path: str) -> None:
    """Nothing is normalised or decoded, so nothing can be smuggled past a rule about paths."""
    client, answer = await probe(world, request(line=b"GET %b HTTP/1.1" % path.encode(), body=None))
    assert answer.status == 404
    assert answer.error["code"] in ("unknown_url", "model_not_found")
    await client.close()


SERVED: dict[str, bytes] = {
    "plain": request(),
    "lower-case-header-names": request(host=b"host: gateway"),
    "ipv6-host": request(host=b"Host: [::1]:8080"),
    "host-with-tab": request(host=b"Host:\tgateway\t"),
    "leading-blank-line": b"\r\n" + request(),
    "query": request(line=b"POST /v1/chat/completions?api-version=2024-10-21 HTTP/1.1"),
    "http-1.0": request(line=CHAT[:-1] + b"0"),
    "chunked": chunked(framed(BODY), LAST),
    "chunk-per-byte": chunked(*[framed(BODY[n : n + 1]) for n in range(len(BODY))], LAST),
    "chunk-extension": chunked(b"%x;a=b\r\n%b\r\n" % (len(BODY), BODY), LAST),
    "trailer": chunked(framed(BODY), b"0\r\nAuthorization: Bearer other\r\n\r\n"),
    "headers-100": request(*[b"x%d: y" % n for n in range(MAX_HEADERS - 4)]),
    "header-12-kb": request(b"x: " + b"y" * 12_000),
    "upgrade-not-asked-for": request(b"Upgrade: websocket"),
    "hop-by-hop-authorization": request(b"Connection: authorization"),
    "expect-unknown": request(b"Expect: 200-ok"),
    "body-largest": request(body=BODY + b" " * (MAX_BODY - len(BODY))),
}


@pytest.mark.parametrize("name", SERVED)
async def test_unusual_but_sound_requests_are_served(world: World, name: str) -> None:
    """The caps are not too tight: what HTTP allows without ambiguity is answered."""
    client, answer = await probe(world, SERVED[name])
    assert answer.status == 200
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "Hello"
    await client.close()


@pytest.mark.parametrize(("method", "path", "allow"), [
    (b"GET", b"/v1/chat/completions", "POST"), (b"HEAD", b"/v1/models", "GET"),
    (b"OPTIONS", b"/v1/responses", "POST"), (b"TRACE", b"/v1/responses", "POST"),
    (b"PUT", b"/v1/models", "GET"), (b"DELETE", b"/v1/models/gpt-oss-20b", "GET"),
])  # fmt: skip
async def test_every_other_method_is_405(world: World, method: bytes, path: bytes, allow: str) -> None:
    """The answer names the method that the path takes, and the connection lives on."""
    client = await connect(world.url)
    for _ in range(2):
        await client.send(request(line=b"%b %b HTTP/1.1" % (method, path), body=None))
        answer = await client.answer(method=method.decode())
        assert (answer.status, answer.headers["allow"]) == (405, allow)
    await client.close()


async def test_continue_is_said_when_the_body_is_wanted(world: World) -> None:
    """``Expect: 100-continue`` gets its 100 after the head has passed, and the answer after the body."""
    client = await connect(world.url)
    await client.send(request(b"Expect: 100-continue", b"Content-Length: %d" % len(BODY), body=None))
    assert await client.reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert await client.reader.readline() == b"\r\n"
    await client.send(BODY)
    assert (await client.answer()).status == 200
    await client.close()


@pytest.mark.parametrize("part", ["first-line", "header", "blank-lines"])
async def test_a_half_head_is_told_and_closed_on_time(world: World, part: str) -> None:
    """408, whether the client stands still or sends a byte now and then."""
    client, began_s = await connect(world.url), time.monotonic()
    await client.send(
        {"first-line": b"POST /v1/ch", "header": CHAT + b"\r\nHost: a\r\nX:", "blank-lines": b"\r\n"}[part]
    )
    drip = asyncio.ensure_future(_drip(client, b"\r\n" if part == "blank-lines" else b"y"))
    if part != "blank-lines":
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        assert (await world.usage())["status"] == 408
    assert await client.ended() == b""
    drip.cancel()
    assert HEAD_S <= time.monotonic() - began_s < HEAD_S + LATE_S
    await client.close()


async def _drip(client: RawClient, byte: bytes) -> None:
    while True:
        await asyncio.sleep(HEAD_S / 4)
        await client.send(byte)


async def test_a_silent_connection_is_closed_on_time(world: World) -> None:
    """A client that never sends a byte is left without a word."""
    client, began_s = await connect(world.url), time.monotonic()
    assert await client.ended() == b""
    assert HEAD_S <= time.monotonic() - began_s < HEAD_S + LATE_S
    await client.close()


async def test_an_idle_connection_is_closed_on_time(world: World) -> None:
    """After an answer the next request may take its time, and no longer."""
    client, _ = await probe(world, request())
    began_s = time.monotonic()
    assert await client.ended() == b""
    assert IDLE_S - 0.1 <= time.monotonic() - began_s < IDLE_S + LATE_S
    await client.close()


async def test_a_connection_is_used_again(world: World) -> None:
    """Requests that follow each other within the idle time share a connection, as long as they like."""
    client, began_s = await connect(world.url), time.monotonic()
    while time.monotonic() - began_s < 2 * IDLE_S:
        await client.send(request())
        assert (await client.answer()).status == 200
        await asyncio.sleep(IDLE_S / 4)
    await client.close()


@pytest.mark.parametrize("kind", ["length", "chunked", "unread"])
async def test_a_stalled_body_is_told_and_closed_on_time(world: World, kind: str) -> None:
    """408 where the body was wanted; where the answer is out already, the connection just ends."""
    client, began_s = await connect(world.url), time.monotonic()
    await client.send(
        {
            "length": request(b"Content-Length: 1000", body=None) + b"{",
            "chunked": chunked(b"5\r\n{"),
            "unread": request(b"Content-Length: 1000", line=b"GET /v1/models HTTP/1.1", body=None) + b"{",
        }[kind]
    )
    answer = await client.answer()
    assert answer.status == (200 if kind == "unread" else 408)
    assert await client.ended() == b""
    if kind != "unread":
        assert answer.error["code"] == "request_timeout"
        assert BODY_S <= time.monotonic() - began_s < BODY_S + LATE_S
        assert (await world.usage())["outcome"] == "invalid"
    await client.close()


@pytest.mark.parametrize("kind", ["body", "chunk-extensions"])
async def test_a_dripping_body_is_ended(world: World, kind: str) -> None:
    """Bytes that come slower than the least rate, or that are no body at all, buy no time."""
    client = await connect(world.url)
    await client.send(request(b"Content-Length: 9000", body=None) if kind == "body" else chunked(b"5;"))
    drip, began_s = asyncio.ensure_future(_drip(client, b"y")), time.monotonic()
    assert (await client.answer()).status == 408
    drip.cancel()
    assert BODY_S <= time.monotonic() - began_s < BODY_S + LATE_S
    await client.close()


async def test_a_slow_but_steady_body_is_read(world: World) -> None:
    """A body that takes longer than the time-out but keeps the least rate is no fault."""
    client, body = await connect(world.url), BODY + b" " * 3000
    await client.send(request(b"Content-Length: %d" % len(body), body=None))
    for start in range(0, len(body), 400):
        await client.send(body[start : start + 400])
        await asyncio.sleep(0.1)
    assert (await client.answer()).status == 200
    await client.close()


async def test_the_rest_of_a_refused_body_does_not_end_the_connection(world: World) -> None:
    """A client that writes head and body apart gets its 401, and uses the connection again."""
    client = await connect(world.url)
    bad = request().replace(AUTH, b"Authorization: Bearer nobody").removesuffix(BODY)
    for _ in range(2):
        await client.send(bad)
        answer = await client.answer()
        assert (answer.status, answer.headers.get("connection")) == (401, None)
        await client.send(BODY)
    await client.send(request())
    assert (await client.answer()).status == 200
    await client.close()


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    """A few requests in a row, good and bad, each get their own answer."""
    client = await connect(world.url)
    await client.send(request() + request(body=b"{") + request(line=b"GET /v1/models HTTP/1.1", body=None))
    assert [(await client.answer()).status for _ in range(3)] == [200, 400, 200]
    await client.close()


@pytest.mark.parametrize("bytes_each", [1000, 4000, 15_000])
async def test_pipelined_heads_are_judged_one_by_one(world: World, bytes_each: int) -> None:
    """Many heads in one write are none the larger for it; one that is too large is refused in its turn."""
    client = await connect(world.url)
    fine = request(b"x: " + b"y" * bytes_each, line=b"GET /v1/models HTTP/1.1", body=None)
    await client.send(fine * MAX_PIPELINED + request(b"x: " + b"y" * 2 * MAX_HEAD_BYTES, body=None))
    statuses = [(await client.answer()).status for _ in range(MAX_PIPELINED + 1)]
    assert statuses == [200] * MAX_PIPELINED + [431]
    await client.close()


async def test_a_malformed_request_waits_for_the_answers_before_it(world: World) -> None:
    """The 400 comes last, and closes."""
    client = await connect(world.url)
    await client.send(request() + request() + b"@@@@\r\n\r\n" + request())
    assert [(await client.answer()).status for _ in range(3)] == [200, 200, 400]
    assert await client.ended() == b""
    await client.close()


async def test_pipelining_is_bounded(world: World) -> None:
    """Of ten thousand requests the first few are answered; the last answer says that the connection ends."""
    held = asyncio.Event()

    async def hold(connection: Connection) -> None:
        await held.wait()
        await respond(200, completion())(connection)

    world.upstream.then(hold)
    client = await connect(world.url)
    client.writer.write(request() * 10_000)
    await asyncio.sleep(0.1)
    held.set()
    answers = [await client.answer() for _ in range(MAX_PIPELINED + 1)]
    assert [answer.status for answer in answers] == [200] * (MAX_PIPELINED + 1)
    assert answers[-1].headers["connection"] == "close"
    await client.gone()
    await client.close()
    assert len([one for one in world.upstream.requests if one.body["model"]]) >= MAX_PIPELINED + 1


async def test_what_follows_a_last_request_is_ignored(world: World) -> None:
    """After ``Connection: close`` nothing is read, whatever it is."""
    served = len(world.upstream.requests)
    client = await connect(world.url)
    await client.send(request(b"Connection: close") + request() + b"@@@@")
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.ended() == b""
    assert len(world.upstream.requests) == served + 1
    await client.close()


async def _half(connection: Connection) -> None:
    await connection.send(STREAM_HEAD)
    await connection.event(ROLE, chunk({"content": "Hel"}))
    await connection.until_gone()


@pytest.mark.parametrize("behind", [b"", request()], ids=["alone", "with-another-behind"])
@pytest.mark.parametrize("leave", ["half_close", "reset"])
async def test_a_client_that_leaves_cancels_the_engine(world: World, leave: str, behind: bytes) -> None:
    """FIN after the request and RST in the stream both end the engine's work within a second."""
    world.upstream.then(_half)
    client = await connect(world.url)
    await client.send(request(body=json.dumps(chat_body(stream=True)).encode()) + behind)
    await client.reader.readuntil(b"Hel")
    began_s = time.monotonic()
    getattr(client, leave)()
    await asyncio.wait_for(world.upstream.requests[-1].gone.wait(), 5)
    assert time.monotonic() - began_s < 1
    assert (await world.usage())["outcome"] == "client_gone_streaming"
    await client.close()


async def test_a_half_open_client_that_waits_for_a_whole_answer_is_gone(world: World) -> None:
    """FIN right after the request, before any answer, is the same."""
    begun = asyncio.Event()

    async def wait(connection: Connection) -> None:
        begun.set()
        await connection.until_gone()

    world.upstream.then(wait)
    client = await connect(world.url)
    await client.send(request())
    await begun.wait()
    client.half_close()
    assert (await world.usage())["outcome"] == "client_gone_waiting"
    await client.close()


async def test_http_1_0_gets_no_chunks(world: World) -> None:
    """A stream to an HTTP/1.0 client ends with the connection."""
    world.upstream.then(good_stream())
    body = json.dumps(chat_body(stream=True)).encode()
    client = await connect(world.url)
    await client.send(request(line=CHAT[:-1] + b"0", body=body))
    answer = await client.answer()
    assert "transfer-encoding" not in answer.headers
    assert answer.body.startswith(b"data: {")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    await client.close()


async def test_refusals_leave_no_trace_of_their_bytes(world: World) -> None:
    """A log line about a refused request holds nothing that the client sent."""
    client, _ = await probe(world, b"GET /SECRET HTTP/1.1\r\nHost: SECRET/\r\nx: SECRET\r\n\r\n")
    await client.close()
    await world.usage()
    await asyncio.sleep(0.2)
    assert b"SECRET" not in world.lines.getvalue()
