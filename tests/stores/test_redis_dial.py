"""Ways to Redis: over TLS, as a user with few rights, through Sentinels; and what is no way at all."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from cluster.core.limits import Reservation
from cluster.stores.redis_dial import RedisUnfit
from cluster.stores.redis_limits import RedisLimits
from tests.certificates import Certificates, make
from tests.redis_servers import RedisServer, StartRedis, free_port
from tests.stores.limit_store_suite import ask

pytestmark = pytest.mark.integration

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract.md"
PASSWORD = "a secret of the test"  # with spaces, as pass phrases have them


def documented_rights() -> list[str]:
    """Return the words of the user that docs/contract.md tells to make, after its password."""
    [line] = re.findall(
        r"^ACL SETUSER gpt-oss-gateway on >PASSWORD (.*)$", CONTRACT.read_text(), re.MULTILINE
    )
    return str(line).split()


def make_user(server: RedisServer, rights: Sequence[str]) -> None:
    """Make the gateway's user; the default one gets a password of its own."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "gpt-oss-gateway", "on", f">{PASSWORD}", *rights)


def password_file(folder: Path, password: str = PASSWORD) -> str:
    """Write a password as a Secret's file has it, with a newline; return where."""
    (folder / "password").write_text(password + "\n")
    return str(folder / "password")


async def works(server: RedisServer, **settings: Any) -> None:
    """Hold that a gateway with these settings shares its limits in the server."""
    store = RedisLimits(
        server.settings(**settings), max_request_s=1800, clock=time.time, on_degraded=lambda _: None
    )
    async with store:
        request = ask(60, requests_per_min=5, tokens_per_min=100, concurrent=1, tokens_per_day=100)
        held = await store.reserve(request)
        assert isinstance(held, Reservation)
        assert not store.degraded
        store.settle(held, tokens=30)
    assert not store.unsettled
    assert not store.degraded


async def refuses(server: RedisServer, **settings: Any) -> str:
    """Hold that a gateway with these settings does not start; return what it says."""
    with pytest.raises(RedisUnfit) as error:
        await works(server, **settings)
    return str(error.value)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Return a private authority, and a certificate of it for the server."""
    return make(tmp_path)


@pytest.fixture
def tls_server(start_redis: StartRedis, certificates: Certificates) -> RedisServer:
    """Return a server that takes TLS only."""
    return start_redis(**tls_options(certificates), port="0", bind="127.0.0.1 127.0.0.2")


def tls_options(certificates: Certificates) -> dict[str, str]:
    """Return the options of a server that takes TLS on a free port, and asks no certificate of clients."""
    chain = str(certificates.chain)
    return {
        "tls_port": str(free_port()), "tls_cert_file": chain, "tls_key_file": chain,
        "tls_ca_cert_file": str(certificates.ca), "tls_auth_clients": "no",
    }  # fmt: skip


def tls_url(server: RedisServer, host: str = "127.0.0.1") -> str:
    """Return the url of a server's TLS."""
    return f"rediss://{host}:{server.options['tls-port']}/0"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_authority_is_trusted(
    tls_server: RedisServer, certificates: Certificates, host: str
) -> None:
    """With ``rediss://`` and ``ca_file`` the connection is encrypted and its server known."""
    await works(tls_server, url=tls_url(tls_server, host), ca_file=str(certificates.ca))


@pytest.mark.parametrize("trusted", ["the system's", "another"])
async def test_another_authority_is_not(tls_server: RedisServer, tmp_path: Path, trusted: str) -> None:
    """A certificate of an authority that nobody named is refused, with the setting that names one."""
    (tmp_path / "other").mkdir()
    other = {"ca_file": str(make(tmp_path / "other").ca)} if trusted == "another" else {}
    said = await refuses(tls_server, url=tls_url(tls_server), **other)
    assert "its certificate is not trusted" in said
    assert "limits.redis.ca_file" in said


async def test_a_certificate_must_name_the_host(tls_server: RedisServer, certificates: Certificates) -> None:
    """A good certificate for another address is refused."""
    said = await refuses(tls_server, url=tls_url(tls_server, "127.0.0.2"), ca_file=str(certificates.ca))
    assert "names 127.0.0.2" in said


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_authorities_that_cannot_be_read_are_named(
    redis_server: RedisServer, tmp_path: Path, content: str | None
) -> None:
    """A ``ca_file`` that is missing, or holds no certificate, is said by its name."""
    if content is not None:
        (tmp_path / "ca").write_text(content)
    said = await refuses(redis_server, url="rediss://127.0.0.1:1", ca_file=str(tmp_path / "ca"))
    assert f"ca_file {tmp_path / 'ca'}: cannot be read" in said


async def test_the_documented_rights_are_enough(redis_server: RedisServer, tmp_path: Path) -> None:
    """A user made as the documentation says can do all that a gateway does, in any database."""
    make_user(redis_server, documented_rights())
    for url in (f"redis://127.0.0.1:{redis_server.port}", f"redis://127.0.0.1:{redis_server.port}/3"):
        await works(redis_server, url=url, user="gpt-oss-gateway", password_file=password_file(tmp_path))
    with redis_server.client(db=3) as client:
        assert client.exists("gptoss:{ads}")


RIGHTS = [word for word in documented_rights() if word.startswith("+") or word.startswith("~")]


@pytest.mark.parametrize("missing", RIGHTS)
async def test_each_right_is_needed(redis_server: RedisServer, tmp_path: Path, missing: str) -> None:
    """Without any one of them a gateway does not start, and says what to do."""
    make_user(redis_server, [right for right in documented_rights() if right != missing])
    url = f"redis://127.0.0.1:{redis_server.port}/3"
    said = await refuses(redis_server, url=url, user="gpt-oss-gateway", password_file=password_file(tmp_path))
    assert "the rights that docs/contract.md lists" in said


async def test_the_users_rights_end_there(redis_server: RedisServer) -> None:
    """The documented user reads no other key, and cannot run what would harm the server."""
    make_user(redis_server, documented_rights())
    with redis_server.client(username="gpt-oss-gateway", password=PASSWORD) as client:
        for command in (["GET", "gptoss:x"], ["HMGET", "other", "x"], ["FLUSHALL"], ["CONFIG", "GET", "*"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


async def test_the_default_user_may_have_a_password(start_redis: StartRedis, tmp_path: Path) -> None:
    """Without a user in the settings the password is the default user's."""
    server = start_redis(requirepass="secret")
    await works(server, password_file=password_file(tmp_path, "secret"))


MISTAKES = {
    "a wrong password": ({"requirepass": "x"}, {"password_file": "password"}, "limits.redis.password_file"),
    "no password": ({"requirepass": "x"}, {}, "set limits.redis.password_file"),
    "a password too many": ({}, {"password_file": "password"}, "remove password_file"),
    "no such file": ({}, {"password_file": "nowhere"}, "nowhere: cannot be read"),
    "a database too high": ({"databases": "1"}, {"url": "redis://127.0.0.1:{port}/7"}, "fewer databases"),
    "an evicting server": ({"maxmemory_policy": "allkeys-lru"}, {}, "CONFIG SET maxmemory-policy noeviction"),
    "a replica": ({"replicaof": "127.0.0.1 1"}, {}, "it is a replica"),
    "a Redis Cluster": ({"cluster_enabled": "yes"}, {}, "it is a Redis Cluster"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "settings", "mend"), MISTAKES.values(), ids=MISTAKES)
async def test_a_mistake_is_told_with_its_mend(
    start_redis: StartRedis, tmp_path: Path, options: dict[str, str], settings: dict[str, str], mend: str
) -> None:
    """What only a person can mend stops the start, and the message says how."""
    server = start_redis(**options)
    password_file(tmp_path)
    settings = {name: value.format(port=server.port) for name, value in settings.items()}
    if "password_file" in settings:
        settings["password_file"] = str(tmp_path / settings["password_file"])
    assert mend in await refuses(server, **settings)
