"""Whom a gateway knows, by the settings: API keys, tokens of trusted issuers, and what keeps both true."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from cluster.settings import AuthSettings, JwtSettings, KeyDirectorySettings, KeySettings, RateLimits
from cluster.stores.caller import Caller
from cluster.stores.key_files import KeyFiles
from cluster.stores.key_index import KeyIndex

if TYPE_CHECKING:  # a gateway without issuers does not load what checks their tokens
    from cluster.stores.tokens import Issuer, Tokens

Changed = Callable[[list[str]], None]
"""Told the names of entries that change after the first reading."""


class Follower(Protocol):
    """Keeps something that is in memory equal to where it comes from."""

    async def follow(self) -> NoReturn:
        """Follow until cancelled; what fails is logged, and what is known stays in force."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The `KeyStore` of a gateway."""

    keys: KeyIndex
    tokens: "Tokens | None"
    """None: no issuer is trusted."""
    followers: Sequence[Follower]

    @property
    def ready(self) -> bool:
        """Whether keys have been loaded, and each issuer's were tried: one that is away stops nobody else."""
        return self.keys.ready and all(issuer.keys.tried for issuer in self._issuers)

    def can_judge(self, token: str) -> bool:
        """Whether what would tell a good token from a bad one is there; tokens need their issuers' keys."""
        return self.keys.ready and ("." not in token or all(issuer.keys.good for issuer in self._issuers))

    @property
    def _issuers(self) -> "Sequence[Issuer]":
        return self.tokens.issuers if self.tokens else ()

    def find(self, token: str) -> Caller | None:
        """Return the caller whose live key or good token this is, or None."""
        if self.tokens is not None and "." in token:
            return self.tokens.find(token)
        return self.keys.find(token)

    async def follow(self) -> None:
        """Keep keys and issuers' keys true until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for follower in self.followers:
                tasks.create_task(follower.follow())


def open_identity(
    auth: AuthSettings, pepper: bytes, *, defaults: RateLimits, clock: Callable[[], float], changed: Changed
) -> Identity:
    """Return what knows callers; keys in files are read at once, all others once it is followed.

    ``defaults`` are the limits of a tenant that sets none; ``clock`` returns seconds of the epoch.
    """
    origin = (
        str(auth.keys.path) if isinstance(auth.keys, KeyDirectorySettings) else f"Secret {auth.keys.secret}"
    )
    index = KeyIndex(pepper, defaults=defaults, clock=clock, origin=origin)
    source = _key_source(auth.keys, index, changed)
    if not auth.jwt:
        return Identity(index, None, [source])
    tokens = _tokens(auth.jwt, index, clock)
    return Identity(index, tokens, [source, *(issuer.keys for issuer in tokens.issuers)])


def _tokens(trusted: Sequence[JwtSettings], index: KeyIndex, clock: Callable[[], float]) -> "Tokens":
    from cluster.stores.jwks import Jwks  # noqa: PLC0415 - aiohttp and cryptography are 20 MiB
    from cluster.stores.tokens import Issuer, Tokens  # noqa: PLC0415 - the same

    issuers = [Issuer(one, Jwks(one.jwks, one.algorithms, issuer=one.name, clock=clock)) for one in trusted]
    return Tokens(issuers, index, clock=clock)


def _key_source(keys: KeySettings, index: KeyIndex, changed: Changed) -> Follower:
    if isinstance(keys, KeyDirectorySettings):
        files = KeyFiles(keys.path, index, changed)
        files.refresh()
        return files
    from cluster.stores.secret_watch import SecretWatch  # noqa: PLC0415 - its import takes most of a second

    return SecretWatch(keys, index, changed)
