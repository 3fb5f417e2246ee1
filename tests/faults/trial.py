"""One trial: load, a fault at a random moment of it, recovery, and the comparison of the ledgers."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.settings import SimulatedEngine
from cluster.stores.memory_limits import LEASE_GRACE_S
from tests.faults.kinds import Kind, short
from tests.faults.ledger import Audit, Limiter, audit
from tests.faults.load import Load
from tests.faults.stack import MAX_REQUEST_S, SIM, TENANT, Away, Stack, until

BEFORE_S = (0.8, 2.5)
"""The fault strikes between so many seconds after the load's beginning."""
AFTER_S = 1.0
"""How long the load goes on once all is up again."""
LINES_S = 10.0
ENGINE = SimulatedEngine.model_validate(SIM)
_KEY = f"gptoss:{{{TENANT}}}"


@dataclass(frozen=True)
class Trial:
    """What one trial has shown."""

    kind: str
    seed: int
    findings: tuple[str, ...]
    ends: dict[str, int]
    requests: int
    lost: int
    """Requests without any answer."""
    billed_minus_sent: tuple[int, ...]
    disturbed_s: float
    """From the strike to the last end of a request that failed; 0 where none did."""
    recovery_s: float
    """From the strike until every part was up and questions were answered."""


@dataclass
class Course:
    """How a trial goes, in seconds of the monotonic clock."""

    struck_s: float
    recovered_s: float = float("inf")
    findings: list[str] = field(default_factory=list)


async def run(stack: Stack, kind: Kind, seed: int, numbers: Iterator[int]) -> Trial:
    """Try ``kind`` once."""
    rng = random.Random(seed)
    since, before = stack.log_sizes(), limiter(stack)
    load = Load(stack, rng, numbers)
    await load.start(kind.make, kind.workers)
    await asyncio.sleep(rng.uniform(*BEFORE_S))
    course = Course(time.monotonic())
    try:
        await kind.strike(stack, load, rng)
        await until(stack.whole, limit_s=kind.recovery_limit_s, what="all parts are up")
        await load.answers(limit_s=kind.recovery_limit_s)
        course.recovered_s = time.monotonic()
    except (TimeoutError, Away, AssertionError) as error:
        course.findings.append(f"no recovery: {error}")
    await asyncio.sleep(AFTER_S)
    await load.stop()
    lines = await _lines(stack, load, since)
    after = limiter(stack)
    if kind.rules.cuts:
        stack.orphans |= after.leases
    found = audit(
        load.gots,
        lines,
        before,
        after,
        kind.rules,
        engine=ENGINE,
        orphans=frozenset(stack.orphans),
        recovered_s=course.recovered_s,
    )
    return _trial(kind, seed, load, found, course)


def _trial(kind: Kind, seed: int, load: Load, found: Audit, course: Course) -> Trial:
    ends = [
        got.end_s for got in load.gots if got.end not in ("complete", "left") and got.end_s > course.struck_s
    ]
    return Trial(
        kind=kind.name,
        seed=seed,
        findings=(*course.findings, *found.findings),
        ends=dict(found.ends.most_common()),
        requests=len(load.gots),
        lost=found.lost,
        billed_minus_sent=tuple(found.billed_minus_sent),
        disturbed_s=max(ends, default=course.struck_s) - course.struck_s,
        recovery_s=course.recovered_s - course.struck_s,
    )


async def _lines(stack: Stack, load: Load, since: dict[Path, int]) -> list[dict[str, Any]]:
    """Return the usage lines of this trial, once all that are expected are there or time is up."""
    wanted = {got.request_id for got in load.gots if got.request_id is not None and got.end != "cut"}
    deadline_s = time.monotonic() + LINES_S
    for pause_s in itertools.repeat(0.1):
        lines = stack.usage_lines(since)
        there = {line["request_id"] for line in lines}
        if wanted <= there or time.monotonic() > deadline_s:
            return lines
        await asyncio.sleep(pause_s)
    raise AssertionError("an endless loop has ended")


async def leases_end(stack: Stack) -> list[str]:
    """Wait until the leases that killed gateways left have ended; return what is wrong with them."""
    if not stack.orphans:
        return []
    wait_s = MAX_REQUEST_S + LEASE_GRACE_S + 1
    with stack.redis.client() as redis:
        now_s = redis.time()[0]
        left = dict(redis.zrange(f"{_KEY}:leases", 0, -1, withscores=True))
    late = [name.decode() for name, at_us in left.items() if name.decode() not in stack.orphans]
    await asyncio.sleep(max((at_us / 1e6 + wait_s - now_s for at_us in left.values()), default=0))
    load = Load(stack, random.Random(0), itertools.count(1_000_000_000))
    await load.start(short, 0)
    await load.answers(limit_s=MAX_REQUEST_S)  # leases that have ended go with the next request
    await load.stop()
    return [f"held by nobody: {name}" for name in (*late, *limiter(stack).leases)]


def limiter(stack: Stack) -> Limiter:
    """Return what the limits hold now."""
    with stack.redis.client() as redis:
        spent = redis.hmget(_KEY, ["low", "medium", "high"])
        leases = redis.zrange(f"{_KEY}:leases", 0, -1)
    return Limiter(sum(int(value or 0) for value in spent), frozenset(name.decode() for name in leases))
