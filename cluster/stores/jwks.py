"""The public keys of one issuer of tokens: read in the background, never while a request waits.

A set that cannot be read again keeps the last one in force for up to a day. A token with an unknown key asks
for another reading, at most one in half a minute, so that guessed key ids are no way to flood the issuer.
"""

import asyncio
import logging
import math
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import aiohttp
import orjson
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from cluster.settings import JwksSettings, JwtAlgorithm
from cluster.stores.snapshot import Snapshot
from cluster.stores.troubles import Troubles

logger = logging.getLogger(__name__)

MAX_STALE_S = 24 * 3600.0
"""Seconds for which keys stay good while their set cannot be read again."""
PAUSE_S = 30.0
"""Fewest seconds between two readings: after one that failed, or for an unknown key."""
FETCH_S = 10.0
"""Seconds that a reading may take."""
MAX_BYTES = 256 * 1024
"""Largest set."""
MIN_RSA_BITS = 2048

_FITTING: Mapping[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "OKP Ed25519": ("EdDSA",),
}
"""Algorithms by type and curve of a key."""


class JwksError(Exception):
    """A set of keys cannot be read; the message says why."""


class Jwks:
    """The keys of one issuer, by id and algorithm.

    ``clock`` returns seconds of the epoch; ``issuer`` is how logs name it.
    """

    def __init__(
        self,
        settings: JwksSettings,
        algorithms: tuple[JwtAlgorithm, ...],
        *,
        issuer: str,
        clock: Callable[[], float],
    ) -> None:
        self._settings, self._algorithms = settings, algorithms
        self._origin, self._clock = f"keys of issuer {issuer}", clock
        self._snapshot = Snapshot(settings.snapshot_file)
        self._keys: Mapping[tuple[str, str], PyJWK] = {}
        self._data = b""
        self._loaded_s = -math.inf
        self._wanted = asyncio.Event()
        self._troubles = Troubles(logger)
        self.tried = False
        """Whether a reading has ended, well or not."""
        self.version = 0
        """Grows when the keys change, so that what they have verified can be told to be old."""

    def age_s(self) -> float:
        """Return the seconds since the set was last read; infinite before."""
        return max(self._clock() - self._loaded_s, 0.0)

    @property
    def good(self) -> bool:
        """Whether the keys are fresh enough to trust."""
        return self._clock() - self._loaded_s <= MAX_STALE_S

    def get(self, kid: str, algorithm: str) -> PyJWK | None:
        """Return the key of this id for this algorithm; None where there is none."""
        return self._keys.get((kid, algorithm))

    def want(self) -> None:
        """Ask for another reading, for a key that is not there."""
        self._wanted.set()

    async def follow(self) -> NoReturn:
        """Read the set again and again until cancelled; failures are logged, and change nothing."""
        while True:
            read = await self.refresh()
            self.tried = True
            self._wanted.clear()
            await asyncio.sleep(PAUSE_S)
            if read:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(self._settings.refresh_s - PAUSE_S, 0)):
                        await self._wanted.wait()  # wait_for can lose a cancellation in Python 3.11

    async def refresh(self) -> bool:
        """Read the set once; return whether it could be read."""
        try:
            data = await self._fetch()
            keys = self._keys if data == self._data else usable(data, self._algorithms)
        except (JwksError, OSError, aiohttp.ClientError) as error:  # TimeoutError is an OSError
            told = str(error) or type(error).__name__
            self._troubles.tell(self._origin, f"cannot be read: {told}; the last good ones stay")
            await self._fall_back()
            return False
        self._accept(data, keys, self._clock())
        self._troubles.over(self._origin)
        await asyncio.to_thread(self._snapshot.save, data)
        return True

    def _accept(self, data: bytes, keys: Mapping[tuple[str, str], PyJWK], loaded_s: float) -> None:
        self._loaded_s = loaded_s
        if data != self._data:
            self._data, self._keys = data, keys
            self.version += 1

    async def _fall_back(self) -> None:
        """Where nothing has been read yet, take over the snapshot of an earlier run."""
        if self._keys:
            return
        kept = await asyncio.to_thread(self._snapshot.load)
        if kept is None:
            return
        try:
            self._accept(kept[0], usable(kept[0], self._algorithms), kept[1])
        except JwksError as error:
            logger.error("%s: %s", self._settings.snapshot_file, error)
            return
        logger.warning("%s are those of %s", self._origin, self._settings.snapshot_file)

    async def _fetch(self) -> bytes:
        if self._settings.file is not None:
            return await asyncio.to_thread(self._settings.file.read_bytes)
        file = self._settings.ca_file
        authorities = await asyncio.to_thread(ssl.create_default_context, cafile=file)  # reads many files
        return await _download(str(self._settings.url), authorities)


def usable(data: bytes, algorithms: tuple[JwtAlgorithm, ...]) -> dict[tuple[str, str], PyJWK]:
    """Return the keys of a set that may verify tokens, by id and algorithm. Raises `JwksError` for none.

    Left out are keys without an id, for another use or algorithm, too short, or private; of two with one id
    the first counts.
    """
    try:
        found = [item for item in orjson.loads(data)["keys"] if isinstance(item, dict)]
    except (ValueError, KeyError, TypeError):
        raise JwksError("it is not a JSON Web Key Set") from None
    keys: dict[tuple[str, str], PyJWK] = {}
    for item in found:
        for algorithm in algorithms:
            key = _key(item, algorithm)
            if key is not None:
                keys.setdefault((item["kid"], algorithm), key)
    if not keys:
        raise JwksError(f"none of its {len(found)} keys can verify {' or '.join(algorithms)}")
    return keys


def _key(item: dict[str, Any], algorithm: str) -> PyJWK | None:
    """Return a key for one algorithm; None where it is not meant for it, or must not be used."""
    kind = " ".join(str(item[name]) for name in ("kty", "crv") if name in item)
    meant = (
        isinstance(item.get("kid"), str)
        and algorithm in _FITTING.get(kind, ())
        and item.get("alg", algorithm) == algorithm
        and item.get("use", "sig") == "sig"
        and "verify" in item.get("key_ops", ["verify"])
        and "d" not in item
    )
    if not meant:
        return None
    try:
        key = PyJWK(item, algorithm)
    except PyJWTError:
        return None
    return None if kind == "RSA" and key.key.key_size < MIN_RSA_BITS else key


async def _download(url: str, authorities: ssl.SSLContext) -> bytes:
    timeout = aiohttp.ClientTimeout(total=FETCH_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
        session.get(url, ssl=authorities, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise JwksError(f"{url}: status {response.status}")
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > MAX_BYTES:
                raise JwksError(f"{url}: larger than {MAX_BYTES} bytes")
        return bytes(data)
