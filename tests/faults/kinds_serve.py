"""Faults and changes of Ray Serve's side: replicas, request routers, HAProxy, the controller, deployments."""

import asyncio
import copy
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.client import Question
from tests.faults.load import Load
from tests.faults.stack import MODEL, POOL, Away, Stack, until

REPLACED_LIMIT_S = 120.0
SLOW_ROUTER_S = 3.0
HEAD_DOWN_S = 3.0


def kill(processes: list[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Signal processes; one that has just ended is no matter."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


async def _strike_one(
    find: Callable[[], list[int]], rng: random.Random, what: str, number: signal.Signals = signal.SIGKILL
) -> None:
    victim, count = rng.choice(find()), len(find())
    kill([victim], number)

    async def over() -> bool:
        now = find()
        return victim not in now and len(now) == count

    await until(over, limit_s=REPLACED_LIMIT_S, what=f"{what} has a successor")


async def replica_killed(stack: Stack, load: Load, rng: random.Random) -> None:
    """Kill a replica, and wait until Serve has begun another."""
    await _strike_one(stack.replicas, rng, "the replica")


async def replica_frozen(stack: Stack, load: Load, rng: random.Random) -> None:
    """Stop a replica's process as a machine that hangs does, until Serve replaces it."""
    await _strike_one(stack.replicas, rng, "the frozen replica", signal.SIGSTOP)


async def requests_hang(stack: Stack, load: Load, rng: random.Random) -> None:
    """Let the engine hang in some requests, before their first token or after some, though it looks well."""
    words = ("fault-hang", "fault-stall-at-reasoning", "fault-stall-at-answer")
    hanging = [
        Question(
            next(load.numbers), MODEL, "low", rng.choice(("chat", "responses")), bool(number % 2), fault=word
        )
        for number, word in enumerate(words * 2)
    ]
    await asyncio.gather(*(load.ask(question) for question in hanging))


async def poison(stack: Stack, load: Load, rng: random.Random) -> None:
    """Send a request that kills the replica it runs on, and again and again as a stubborn client does."""
    number, place = next(load.numbers), rng.choice(("start", "reasoning", "answer"))
    ever = set(stack.replicas())
    for _ in range(6):
        await load.ask(Question(number, MODEL, "low", fault=f"fault-kill-at-{place}"))
        await until(lambda: _all_up(stack), limit_s=REPLACED_LIMIT_S, what="the replicas have successors")
        ever |= set(stack.replicas())
    lost = len(ever - set(stack.replicas()))
    most = 2 * len(stack.gateways)  # each gateway has to see two losses
    assert 1 <= lost <= most, f"{lost} replicas were lost to one request"


async def _all_up(stack: Stack) -> bool:
    return len(stack.replicas()) == 2


async def router_killed(stack: Stack, load: Load, rng: random.Random) -> None:
    """Kill one of the two request routers."""
    await _strike_one(stack.routers, rng, "the router")


async def router_slow(stack: Stack, load: Load, rng: random.Random) -> None:
    """Stop one of the two request routers for some seconds."""
    slow = rng.choice(stack.routers())
    kill([slow], signal.SIGSTOP)
    await asyncio.sleep(SLOW_ROUTER_S)
    kill([slow], signal.SIGCONT)


async def controller_killed(stack: Stack, load: Load, rng: random.Random) -> None:
    """Kill Serve's controller."""
    old = stack.find("ray::ServeController")
    kill(old)
    await _successor(lambda: stack.find("ray::ServeController"), old, "the controller")


async def head_restarted(stack: Stack, load: Load, rng: random.Random) -> None:
    """Kill the head's own process, Ray's GCS, and start it again from what it keeps in Redis."""
    (old,) = stack.find("gcs/gcs_server")
    command, pairs = (_words(f"/proc/{old}/{name}") for name in ("cmdline", "environ"))
    environment = dict(pair.split("=", 1) for pair in pairs)
    (raylet,) = stack.find("raylet/raylet")
    (address,) = [word for word in _words(f"/proc/{raylet}/cmdline") if word.startswith("--gcs-address=")]
    port = f"--gcs_server_port={address.rpartition(':')[2]}"  # at first it was given any
    command = [port if word.startswith("--gcs_server_port=") else word for word in command]
    kill([old])
    await asyncio.sleep(HEAD_DOWN_S)
    with (stack.folder / "logs" / "gcs.log").open("ab") as log:
        await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)


def _words(path: str) -> list[str]:
    return Path(path).read_text().split("\0")[:-1]


async def haproxy_killed(stack: Stack, load: Load, rng: random.Random) -> None:
    """Kill HAProxy."""
    old = stack.find("bin/haproxy")
    kill(old)
    await _successor(lambda: stack.find("bin/haproxy"), old, "HAProxy")


async def _successor(find: Callable[[], list[int]], old: list[int], what: str) -> None:
    async def over() -> bool:
        return bool(set(find()) - set(old))

    await until(over, limit_s=REPLACED_LIMIT_S, what=f"{what} has a successor")


async def rolling_update(stack: Stack, load: Load, rng: random.Random) -> None:
    """Deploy another version, which restarts every replica and router of the pool."""
    old = {*stack.replicas(), *stack.routers()}
    document = _changed(stack, routing={"batch": round(rng.uniform(0.5, 1.5), 3)})
    await stack.serving.command({"deploy": document})

    async def over() -> bool:
        return not old & {*stack.replicas(), *stack.routers()} and await stack.whole()

    await until(over, limit_s=REPLACED_LIMIT_S, what="every replica and router is new")
    stack.settings = document


async def failed_update(stack: Stack, load: Load, rng: random.Random) -> None:
    """Deploy a version whose replicas cannot start, and then the old one again, as a person would."""
    document = copy.deepcopy(stack.settings)
    document["serving"]["engine_key_file"] = str(stack.folder / "no-such-key")
    await stack.serving.command({"deploy": document})

    async def failed() -> bool:
        with suppress(Away):
            status = (await stack.serving.command({})).get(POOL, {}).get("status")
            return status in ("DEPLOY_FAILED", "UNHEALTHY")
        return False

    await until(failed, limit_s=REPLACED_LIMIT_S, what="the deployment is called failed")
    await stack.serving.command({"deploy": stack.settings})
    await until(stack.whole, limit_s=REPLACED_LIMIT_S, what="the old version is back")


async def scaled(stack: Stack, load: Load, rng: random.Random) -> None:
    """Add a replica, and take one away again, under long streams."""
    await stack.serving.command({"deploy": _changed(stack, replicas={"min": 3, "max": 3})})

    async def three() -> bool:
        with suppress(Away):
            pool = (await stack.serving.command({})).get(POOL, {})
            return pool.get("status") == "RUNNING" and len(stack.replicas()) == 3
        return False

    await until(three, limit_s=REPLACED_LIMIT_S, what="there are three replicas")
    await asyncio.sleep(3)  # requests go to the new one, as soon as routers and HAProxy know it
    await stack.serving.command({"deploy": stack.settings})
    await until(lambda: _all_up(stack), limit_s=REPLACED_LIMIT_S, what="there are two replicas")


def _changed(stack: Stack, **changes: Any) -> dict[str, Any]:
    document = copy.deepcopy(stack.settings)
    document["serving"]["pools"][POOL].update(changes)
    return document
