"""Reaching the Redis that the settings name, through Sentinels and TLS, and judging whether it is fit."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cluster.settings import RedisSettings
from cluster.stores.redis_link import Link, RedisAway
from cluster.stores.redis_script import pack

CONNECT_S = 2.0
"""Seconds that a server gets to accept a connection and to introduce itself."""

NewLink = Callable[[], Link]
Result = TypeVar("Result")


class RedisUnfit(RedisAway):
    """Redis answers, but cannot be used as it or the settings are; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    address: str
    version: str
    keeps_a_log: bool
    """Whether writes survive its end: ``appendonly yes``."""


@dataclass(slots=True)
class Dialer:
    """Opens connections to the primary."""

    settings: RedisSettings
    _sentinels: list[str] = field(init=False)
    """The Sentinels; the one that knew last is asked first."""

    def __post_init__(self) -> None:
        self._sentinels = list(self.settings.sentinels)

    async def connect(self, new_link: NewLink, *trial: bytes) -> tuple[Link, Server]:
        """Return a link on which the commands of ``trial`` have gone well, and its server.

        Raises `RedisAway`, or `RedisUnfit` for what only a person can mend.
        """
        settings = self.settings
        host, port = await self._primary() if settings.sentinels else (settings.host, settings.port)
        address = _address(host, port)
        try:
            link = await self._open(host, port, new_link)
            try:
                *_, info = await within(link.ask(*self._greeting(), pack(b"INFO")))
                server = _judged(_facts(info), address, watched=bool(settings.sentinels))
                await within(link.ask(*trial))
                return link, server
            except BaseException:
                link.close()
                raise
        except RedisAway as error:
            raise _explained(error, address) from error

    async def moved(self, server: Server) -> bool:
        """Whether the Sentinels name another primary than ``server``; not where none of them answers.

        One that they move by hand goes on for ten seconds and more, and then forgets what it counted.
        """
        if not self.settings.sentinels:
            return False
        try:
            return _address(*await within(self._primary())) != server.address
        except RedisAway:
            return False

    async def _primary(self) -> tuple[str, int]:
        """Ask the Sentinels, one after another, where the primary is."""
        settings, troubles = self.settings, list[RedisAway]()
        for sentinel in list(self._sentinels):
            host, _, port = sentinel.rpartition(":")
            try:
                found = await self._ask_sentinel(host.strip("[]"), int(port))
            except RedisAway as error:
                troubles.append(_explained(error, sentinel, whose="sentinel_"))
                continue
            if found is not None:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                return found
            troubles.append(RedisAway(f"{sentinel}: it knows no primary named {settings.host!r}"))
        kind = RedisUnfit if all(isinstance(each, RedisUnfit) for each in troubles) else RedisAway
        raise kind(f"no Sentinel says where {settings.host!r} is ({'; '.join(map(str, troubles))})")

    async def _ask_sentinel(self, host: str, port: int) -> tuple[str, int] | None:
        settings = self.settings
        link = await self._open(host, port, _idle_link)
        try:
            login = _login(settings.sentinel_user, settings.sentinel_password_file)
            question = pack(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", settings.host.encode())
            *_, answer = await within(link.ask(*login, question))
        finally:
            link.close()
        return None if answer is None else (answer[0].decode(), int(answer[1]))

    async def _open(self, host: str, port: int, new_link: NewLink) -> Link:
        context = _tls(self.settings.ca_file) if self.settings.tls else None
        loop = asyncio.get_running_loop()
        try:
            _, link = await within(loop.create_connection(new_link, host, port, ssl=context))
        except ssl.SSLCertVerificationError as error:
            raise RedisUnfit(
                f"its certificate is not trusted ({error.verify_message}): check limits.redis.ca_file, and "
                f"that the certificate names {host}"
            ) from error
        except OSError as error:
            raise RedisAway(error.strerror or str(error)) from error
        return link

    def _greeting(self) -> list[bytes]:
        settings = self.settings
        commands = _login(settings.user, settings.password_file)
        if settings.database:
            commands.append(pack(b"SELECT", settings.database))
        return commands


def _address(host: str, port: int) -> str:
    return f"{host}:{port}"


def _login(user: str | None, password_file: Path | None) -> list[bytes]:
    if password_file is None:
        return []
    try:
        password = password_file.read_bytes().strip()
    except OSError as error:
        raise RedisUnfit(f"password file {password_file}: cannot be read: {error.strerror}") from error
    return [pack(b"AUTH", user.encode(), password) if user else pack(b"AUTH", password)]


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise RedisUnfit(f"limits.redis.ca_file {ca_file}: cannot be read: {error.strerror}") from error


def _idle_link() -> Link:
    return Link(timeout_s=CONNECT_S, on_late=lambda: None, on_lost=lambda _: None)


async def within(work: Awaitable[Result]) -> Result:
    """Return what ``work`` gives. Raises `RedisAway` after ``CONNECT_S``."""
    try:
        async with asyncio.timeout(CONNECT_S):  # wait_for can lose a cancellation in Python 3.11
            return await work
    except TimeoutError as error:
        raise RedisAway(f"it does not answer within {CONNECT_S:g} s") from error


def _facts(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _judged(facts: dict[str, str], address: str, *, watched: bool) -> Server:
    """Return what the server is. Raises `RedisUnfit` where it must not be used."""
    if facts.get("cluster_enabled") == "1":
        raise RedisUnfit(
            "it is a Redis Cluster: use one primary, watched by Sentinels where it must not fail"
        )
    if facts.get("role") != "master":
        if watched:
            raise RedisAway("Sentinel names it, but it is not the primary yet")
        raise RedisUnfit("it is a replica, which takes no writes: name the primary, or its Sentinels")
    policy = facts.get("maxmemory_policy")
    if policy != "noeviction":
        raise RedisUnfit(
            f"its maxmemory-policy is {policy}, which may drop limits: run `CONFIG SET maxmemory-policy "
            "noeviction`, and set it in redis.conf too"
        )
    version = facts.get("valkey_version") or facts.get("redis_version", "unknown")
    return Server(address, version, keeps_a_log=facts.get("aof_enabled") == "1")


_RIGHTS = "give the user the rights that docs/contract.md lists"
_MENDS = {
    "WRONGPASS": "check limits.redis.{whose}user and limits.redis.{whose}password_file",
    "NOAUTH": "it wants a password: set limits.redis.{whose}password_file",
    "ERR AUTH": "it has no password for the default user: set limits.redis.{whose}user, or remove "
    "{whose}password_file",
    "NOPERM": _RIGHTS,
    "can't run this command": _RIGHTS,
    "ERR DB": "it has fewer databases than the number in limits.redis.url",
}


def _explained(error: RedisAway, address: str, *, whose: str = "") -> RedisAway:
    """Return the error with the server's address, and the mend where there is one.

    ``whose`` begins the names of the settings for who has been asked.
    """
    for sign, mend in _MENDS.items():
        if sign in str(error):
            return RedisUnfit(f"{address}: {error}: {mend.format(whose=whose)}")
    return type(error)(f"{address}: {error}")
