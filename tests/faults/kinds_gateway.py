"""Faults of gateways, and of clients."""

import asyncio
import random
import signal
from pathlib import Path

from tests.faults.load import Load
from tests.faults.stack import Gateway, Stack, until

DOWN_S = 1.0
SKEW_S = 3600
LEAVING_S = 4.0


async def killed(stack: Stack, load: Load, rng: random.Random) -> None:
    """Kill a gateway, and start it again."""
    gateway = rng.choice(stack.gateways)
    gateway.signal(signal.SIGKILL)
    await gateway.ended()
    await asyncio.sleep(DOWN_S)
    await gateway.start()


async def ended(stack: Stack, load: Load, rng: random.Random) -> None:
    """Withdraw a gateway that has many streams, end it with SIGTERM, and start another."""
    gateway = rng.choice(stack.gateways)
    await _withdrawn(gateway, load)
    await gateway.start()
    load.balancer.withdrawn.clear()


async def clock_wrong(stack: Stack, load: Load, rng: random.Random) -> None:
    """Have one gateway's clock an hour before or after the other's for a while."""
    gateway = rng.choice(stack.gateways)
    await _replaced(gateway, load, module="tests.faults.skewed", SKEW_S=str(rng.choice((-SKEW_S, SKEW_S))))


async def disk_full(stack: Stack, load: Load, rng: random.Random) -> None:
    """Have one gateway write its logs where there is no room, for a while."""
    await _replaced(rng.choice(stack.gateways), load, output=Path("/dev/full"))


async def clients_leave(stack: Stack, load: Load, rng: random.Random) -> None:
    """Do nothing: the clients themselves leave, each at a token of its own."""
    await asyncio.sleep(LEAVING_S)


async def _replaced(
    gateway: Gateway, load: Load, *, output: Path | None = None, module: str = "cluster", **environment: str
) -> None:
    """Run a gateway in another way for some seconds, and then as before."""
    await _withdrawn(gateway, load)
    await gateway.start(output=output, module=module, **environment)
    load.balancer.withdrawn.clear()
    await asyncio.sleep(LEAVING_S)
    await _withdrawn(gateway, load)
    await gateway.start()
    load.balancer.withdrawn.clear()


async def _withdrawn(gateway: Gateway, load: Load) -> None:
    """Send a gateway nothing new, and have it end when it has finished, as Kubernetes does."""
    load.balancer.withdrawn.add(gateway.name)
    await asyncio.sleep(0.2)
    gateway.signal(signal.SIGTERM)
    status = await gateway.ended()
    assert status == 0, f"gateway {gateway.name} ended with {status}"
    await until(lambda: _gone(gateway), limit_s=5, what="nobody answers for the gateway")


async def _gone(gateway: Gateway) -> bool:
    return not await gateway.ready()
