"""A request's head and body, as they come off the wire."""

import re
from collections.abc import Callable, Iterable

from starlette.types import Scope

from cluster.core.addresses import Address, client_address, parse_network
from cluster.core.request import Endpoint, ParsedRequest, parse_request
from cluster.gateway.http_cycle import Cycle
from cluster.gateway.http_errors import BadRequest, ClientGone

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the value of a request header, ``name`` in lower case; None when it is absent."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def client_request_id(scope: Scope) -> bytes | None:
    """Return the client's own ``x-request-id`` if it is harmless, else None."""
    value = header(scope, b"x-request-id")
    return value if value is not None and _REQUEST_ID.fullmatch(value) else None


def address_reader(trusted: Iterable[str]) -> Callable[[Scope], Address | None]:
    """Return what reads the client's address from a request.

    ``trusted`` are the addresses and networks of proxies whose ``X-Forwarded-For`` is believed.
    """
    networks = tuple(parse_network(one) for one in trusted)

    def address_of(scope: Scope) -> Address | None:
        client = scope["client"]
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        return client_address(client[0], forwarded.decode("latin-1"), networks) if client else None

    return address_of


async def read_request(cycle: Cycle, endpoint: Endpoint, *, limit: int) -> ParsedRequest:
    """Read and parse a request for a completion; its body may be ``limit`` bytes long.

    Raises `InvalidRequest`, `BadRequest` (413) and `ClientGone`.
    """
    headers = dict(reversed(cycle.scope["headers"]))  # the first of a name counts
    content_type, encoding = headers.get(b"content-type"), headers.get(b"content-encoding")
    return parse_request(
        endpoint,
        await read_body(cycle, headers.get(b"content-length"), limit=limit),
        content_type=None if content_type is None else content_type.decode("latin-1"),
        content_encoding=None if encoding is None else encoding.decode("latin-1"),
    )


async def read_body(cycle: Cycle, declared: bytes | None, *, limit: int) -> bytes:
    """Return the request's body, whose ``declared`` length is known before it has come.

    Raises `BadRequest` (413) beyond ``limit`` bytes, and `ClientGone`.
    """
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)
    parts, size, more = [], 0, True
    while more:
        part, more = await cycle.part()
        if cycle.disconnected:
            raise ClientGone
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> BadRequest:
    return BadRequest(
        f"The request body is larger than the {limit} bytes that this server takes.",
        code="request_too_large",
        status=413,
        headers=((b"connection", b"close"),),
    )
