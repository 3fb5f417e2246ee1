"""When a gateway may call a key or a token wrong, and when it is ready."""

import asyncio
from pathlib import Path

import pytest

from cluster.settings import (
    AuthSettings,
    ClaimSettings,
    JwksSettings,
    JwtSettings,
    KeyDirectorySettings,
    RateLimits,
)
from cluster.stores.identity import Identity, open_identity
from cluster.stores.jwks import MAX_STALE_S
from tests.stores.issuer import AUDIENCE, ISSUER, jwk, jwks
from tests.stores.limit_store_suite import Clock

KEY, TOKEN = "gos_live_x", "a.b.c"


def opened(folder: Path, clock: Clock, *, issuers: tuple[str, ...] = ("corp", "lab")) -> Identity:
    """Return the identity of a gateway that trusts issuers; each one's keys are in a file, if it is there."""
    trusted = tuple(
        JwtSettings(
            name=name,
            issuer=f"{ISSUER}/{name}",
            audience=AUDIENCE,
            jwks=JwksSettings(file=folder / f"{name}.json"),
            claims=ClaimSettings(tenant="tenant"),
        )
        for name in issuers
    )
    keys = KeyDirectorySettings(path=folder / "keys")
    auth = AuthSettings(keys=keys, pepper_file=folder / "pepper", jwt=trusted)
    return open_identity(auth, b"p" * 32, defaults=RateLimits(), clock=clock, changed=lambda _names: None)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


async def test_keys_alone(tmp_path: Path, clock: Clock) -> None:
    """Without issuers a gateway is ready, and may judge, once its keys are loaded."""
    early = opened(tmp_path, clock, issuers=())
    assert (early.ready, early.can_judge(KEY), early.can_judge(TOKEN)) == (False, False, False)
    (tmp_path / "keys").mkdir()
    late = opened(tmp_path, clock, issuers=())
    assert (late.ready, late.can_judge(KEY), late.can_judge(TOKEN)) == (True, True, True)


async def test_issuers_are_waited_for_once(tmp_path: Path, clock: Clock) -> None:
    """A gateway is ready when each was tried; while one is away no token is called wrong, but keys are."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "corp.json").write_bytes(jwks(jwk("k1")))
    identity = opened(tmp_path, clock)
    assert (identity.ready, identity.can_judge(KEY), identity.can_judge(TOKEN)) == (False, True, False)
    following = asyncio.create_task(identity.follow())
    async with asyncio.timeout(10):
        while not identity.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    following.cancel()
    assert (identity.can_judge(KEY), identity.can_judge(TOKEN)) == (True, False)
    (tmp_path / "lab.json").write_bytes(jwks(jwk("k2")))
    assert identity.tokens is not None
    await identity.tokens.issuers[1].keys.refresh()
    assert identity.can_judge(TOKEN)
    clock.advance(MAX_STALE_S + 1)
    assert (identity.can_judge(KEY), identity.can_judge(TOKEN)) == (True, False)
