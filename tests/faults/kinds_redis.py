"""Faults of the Redis that the gateways share: none of them may be noticed by any client."""

import asyncio
import random
import signal
import time

from tests.faults.load import Load
from tests.faults.stack import Stack

AWAY_S = 3.0
FROZEN_S = 5.0
LATE_S = 0.6
"""Longer than a gateway waits for an answer."""


async def killed(stack: Stack, load: Load, rng: random.Random) -> None:
    """Kill it, and start it again from its log some seconds later."""
    await asyncio.to_thread(stack.redis.end, signal.SIGKILL)
    await asyncio.sleep(AWAY_S)
    await _require_alone(stack)
    await asyncio.to_thread(stack.redis.start)


async def frozen(stack: Stack, load: Load, rng: random.Random) -> None:
    """Stop it for some seconds: connections stay, nothing answers."""
    stack.redis.freeze()
    await asyncio.sleep(FROZEN_S)
    await _require_alone(stack)
    stack.redis.thaw()


async def flushed(stack: Stack, load: Load, rng: random.Random) -> None:
    """Drop all its data."""
    with stack.redis.client() as redis:
        redis.flushall()
    await asyncio.sleep(3)  # gateways notice at their next beat


async def slow(stack: Stack, load: Load, rng: random.Random) -> None:
    """Let it answer only between long pauses."""
    until_s = time.monotonic() + AWAY_S
    while time.monotonic() < until_s:
        await asyncio.to_thread(_pause, stack)
        await asyncio.sleep(rng.uniform(0, 0.1))


def _pause(stack: Stack) -> None:
    with stack.redis.client() as redis:
        redis.execute_command("DEBUG", "SLEEP", LATE_S)


async def read_only(stack: Stack, load: Load, rng: random.Random) -> None:
    """Make it the replica of nobody for some seconds, as a failover that goes wrong does."""
    with stack.redis.client() as redis:
        redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(AWAY_S)
        await _require_alone(stack)
        redis.execute_command("REPLICAOF", "NO", "ONE")


async def _require_alone(stack: Stack) -> None:
    """Make sure that the fault has struck: every gateway decides by its own share."""
    assert not any([await gateway.shares() for gateway in stack.gateways]), "a gateway has not noticed"


async def certificate_expired(stack: Stack, load: Load, rng: random.Random) -> None:
    """Let its certificate be one that has ended, and every gateway connect anew; then renew it."""
    try:
        _present(stack, str(stack.certificates.expired))
        await asyncio.sleep(AWAY_S)
        await _require_alone(stack)
    finally:
        _present(stack, str(stack.certificates.chain))


def _present(stack: Stack, chain: str) -> None:
    with stack.redis.client() as redis:
        redis.execute_command("CONFIG", "SET", "tls-cert-file", chain, "tls-key-file", chain)
        redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
