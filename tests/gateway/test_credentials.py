"""Keys and tokens over HTTP: a good token is its tenant, and everything wrong gets one answer."""

import io
import json
import math
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from cluster.core.keys import RANDOM_BYTES, mint
from cluster.gateway.logs import LineWriter, Log
from cluster.gateway.server import assemble
from cluster.settings import LoggingSettings, parse
from cluster.stores import admin
from cluster.stores.key_files import KeyDirectory
from cluster.stores.tokens import Issuer
from tests.gateway.conftest import chat_body, serving
from tests.gateway.raw import Answer, connect
from tests.gateway.test_server import CREATED, PEPPER, document
from tests.gateway.upstream import Upstream, completion, respond
from tests.stores.issuer import AUDIENCE, ISSUER, jwk, jwks, token
from tests.stores.wrong_tokens import WRONG

shared_loop = pytest.mark.asyncio(loop_scope="module")

TENANT = {
    "name": "ads", "created_at": CREATED,
    "scopes": {"models": ["gpt-oss-120b"], "endpoints": ["chat"], "max_effort": "medium",
               "max_reasoning_tokens": 64},
    "limits": {"requests_per_min": 2},
}  # fmt: skip
GRANTS = [
    {"claim": "groups", "value": "low-only", "scopes": {"max_effort": "low", "max_reasoning_tokens": 32}},
    {"claim": "sub", "value": "svc-search"},
]
OF_EACH_ANSWER = {"x-request-id", "openai-processing-ms", "date"}
"""Headers that no two answers share."""
UNSENDABLE = {"much too long": 431}
"""Wrong tokens that no head has room for, and their status."""
WRONG_KEYS = (
    "revoked", "expired", "rotated away", "another secret", "without tenant", "too short", "no key", "",
)  # fmt: skip
"""Kinds of wrong keys; `wrong_keys` makes one of each."""


@dataclass
class World:
    """A gateway that trusts an issuer."""

    url: str
    http: aiohttp.ClientSession
    upstream: Upstream
    writer: LineWriter
    lines: io.BytesIO
    keys: dict[str, str]
    """A wrong key of each kind."""
    issuers: Sequence[Issuer]

    async def ask(self, credential: str, *, source: str | None = None) -> Answer:
        """Ask with a credential, from an address of loopback."""
        body = json.dumps(chat_body()).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        head += b"content-length: %d\r\nauthorization: Bearer %b\r\n\r\n" % (len(body), credential.encode())
        client = await connect(self.url, source=source)
        await client.send(head + body)
        answer = await client.answer()
        await client.close()
        return answer

    def send(self, method: str, path: str, body: Any = None, **claims: Any) -> Any:
        """Send a request with a good token."""
        headers = {"authorization": f"Bearer {token(**claims)}"}
        return self.http.request(method, self.url + path, json=body, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Return a gateway put together as the process does, for one tenant and one issuer."""
    folder, upstream, lines = tmp_path_factory.mktemp("gateway"), Upstream(), io.BytesIO()
    upstream.then(respond(200, completion()))
    made = document(folder, await upstream.start())
    made["auth"]["jwt"] = [trusted(folder)]
    (folder / "keys" / "tenant.ads.json").write_text(json.dumps(TENANT))
    keys = wrong_keys(folder / "keys")
    writer = LineWriter(lines)
    gateway = assemble(parse(made, origin="test"), Log(writer, LoggingSettings()))
    assert gateway.identity.tokens is not None
    issuers = gateway.identity.tokens.issuers
    for issuer in issuers:
        await issuer.keys.refresh()
    async with serving(gateway.app, None, gateway.refusing) as url, aiohttp.ClientSession() as http:
        yield World(url, http, upstream, writer, lines, keys, issuers)
    await gateway.engines.close()
    await upstream.stop()
    writer.close()


def trusted(folder: Path) -> dict[str, Any]:
    """Return the settings of an issuer whose keys are in a file."""
    (folder / "jwks.json").write_bytes(jwks(jwk("k1"), jwk("e1", "EC")))
    return {
        "name": "corp",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": {"file": str(folder / "jwks.json")},
        "claims": {"tenant": "tenant", "grants": GRANTS},
    }


def wrong_keys(directory: Path) -> dict[str, str]:
    """Make a wrong key of each kind; the records of those that were once good are in ``directory``."""
    vault, now = KeyDirectory(directory), datetime.now(UTC)
    past = now - timedelta(days=2)
    create = partial(admin.create_key, vault, pepper=PEPPER)
    admin.set_tenant(vault, "gone", now=now)
    made = {name: create("ads", now=now) for name in ("revoked", "rotated away", "another secret")}
    made["expired"] = create("ads", now=past, expires_at=past + timedelta(days=1))
    made["without tenant"] = create("gone", now=now)
    admin.revoke_key(vault, made["revoked"].record.id, now=now)
    admin.rotate_key(vault, made["rotated away"].record.id, pepper=PEPPER, now=now, keep_old_s=0)
    (directory / "tenant.gone.json").unlink()
    other = mint(os.urandom(RANDOM_BYTES), key_id=made["another secret"].record.id)
    keys = {name: one.key for name, one in made.items()}
    return {**keys, "another secret": other, "too short": other[:-1], "no key": "sk-proj-abc", "": ""}


@shared_loop
@pytest.mark.parametrize("name", WRONG_KEYS)
async def test_every_wrong_key_gets_one_answer(world: World, name: str) -> None:
    """Status, body and headers are the same to the byte, whether or not a key was ever good."""
    source = f"127.2.1.{WRONG_KEYS.index(name) + 1}"  # failures are counted by address
    unknown = await world.ask(mint(os.urandom(RANDOM_BYTES)), source=source)
    answer = await world.ask(world.keys[name], source=source)
    assert (answer.status, answer.body, plain(answer)) == (401, unknown.body, plain(unknown))


@shared_loop
@pytest.mark.parametrize(("number", "name"), list(enumerate(WRONG)), ids=WRONG)
async def test_a_wrong_token_gets_what_a_wrong_key_gets(world: World, number: int, name: str) -> None:
    """Status, body and headers are the same to the byte, whatever is wrong with a token."""
    source = f"127.2.0.{number + 1}"  # failures are counted by address
    unknown = await world.ask(mint(os.urandom(RANDOM_BYTES)), source=source)
    assert (unknown.status, unknown.error["code"]) == (401, "invalid_api_key")
    answer = await world.ask(WRONG[name](), source=source)
    if name in UNSENDABLE:
        assert answer.status == UNSENDABLE[name]
        return
    assert (answer.status, answer.body) == (unknown.status, unknown.body)
    assert plain(answer) == plain(unknown)


def plain(answer: Answer) -> dict[str, str]:
    """Return an answer's headers without those that no two answers share; they are there."""
    assert answer.headers.keys() >= OF_EACH_ANSWER
    return {name: value for name, value in answer.headers.items() if name not in OF_EACH_ANSWER}


CHAT = "/v1/chat/completions"


@shared_loop
async def test_a_good_token_is_its_tenant(world: World) -> None:
    """It has the scopes of its tenant, narrowed by its claims, and shares its tenant's limits."""
    high = chat_body(reasoning_effort="high")
    async with world.send("POST", CHAT, high, groups=["low-only"]) as response:
        assert response.status == 200
        assert response.headers["x-effort"] == "low"
        assert response.headers["x-effort-reason"] == "tenant_cap"
        assert response.headers["x-reasoning-budget"] == "32"
        assert response.headers["x-ratelimit-limit-requests"] == "2"
    assert world.upstream.requests[-1].body["thinking_token_budget"] == 32
    async with world.send("POST", CHAT, chat_body(model="gpt-oss-20b")) as response:
        assert response.status == 403
    async with world.send("POST", "/v1/responses", {"model": "gpt-oss-120b", "input": "Hi"}) as response:
        assert response.status == 403
    async with world.send("POST", CHAT, high, sub="another") as response:
        assert response.status == 401, "no grant fits"
    async with world.send("POST", CHAT, high) as response:
        assert response.headers["x-effort"] == "medium"
        assert response.headers["x-reasoning-budget"] == "64"
    async with world.send("POST", CHAT, chat_body()) as response:
        assert response.status == 429
    async with world.send("GET", "/v1/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["gpt-oss-120b"]


@shared_loop
async def test_an_issuer_that_is_away_makes_no_token_wrong(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client is told to come back, and keeps its token; keys are judged as ever."""
    for issuer in world.issuers:
        monkeypatch.setattr(issuer.keys, "_loaded_s", -math.inf)
    for _ in range(30):
        answer = await world.ask(token(), source="127.2.2.1")
        assert (answer.status, answer.error["code"]) == (503, "keys_not_loaded")
        assert answer.headers["retry-after"] == "1"
    assert (await world.ask(world.keys["revoked"], source="127.2.2.1")).status == 401


@shared_loop
async def test_no_token_is_logged(world: World) -> None:
    """Usage lines name issuer and subject; no line has a token, or a part of one."""
    world.writer.close()
    text = world.lines.getvalue().decode()
    lines = [json.loads(line) for line in text.splitlines()]
    named = {line["key_id"] for line in lines if line["log"] == "usage" and line["outcome"] == "completed"}
    assert named == {"corp:svc-search"}
    assert "eyJ" not in text
    assert "gos_live_" not in text
