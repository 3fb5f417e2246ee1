"""The kinds of fault: how each strikes, under which load, and what of it clients may notice."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults import kinds_gateway as gateways
from tests.faults import kinds_redis as redis
from tests.faults import kinds_serve as serve
from tests.faults.client import Question
from tests.faults.ledger import Rules
from tests.faults.load import WORKERS, Load, Make, mixed
from tests.faults.stack import MODEL, Stack

Strike = Callable[[Stack, Load, random.Random], Awaitable[None]]

NOBODY = Rules()
"""No client notices anything."""
BROKEN = Rules(told=frozenset({"upstream_broken"}))
"""Streams of which something was shown may break, and say so; everything else is tried again."""
HUNG = Rules(told=BROKEN.told | {"deadline_exceeded"}, refused=frozenset({"deadline_exceeded"}))
"""Requests may also end by their own clock."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    tells: str
    """What happens, in a few words."""
    strike: Strike
    """Injects the fault, mends what does not mend itself, and returns once it is over."""
    rules: Rules = NOBODY
    make: Make = mixed
    """The questions of the load."""
    workers: int = WORKERS
    recovery_limit_s: float = 60.0
    often: bool = False
    """Whether ``make faults-full`` tries it 60 times, and not 20."""


def leaving(rng: random.Random, number: int) -> Question:
    """Return a question whose client leaves at a random token of its answer."""
    return Question(number, MODEL, "low", rng.choice(("chat", "responses")), leave_after=rng.randint(1, 30))


def whole(rng: random.Random, number: int) -> Question:
    """Return a question whose answer is sent whole: nothing of it shows before its end."""
    return Question(number, MODEL, "low", rng.choice(("chat", "responses")), stream=False)


def short(rng: random.Random, number: int) -> Question:
    """Return a question for a short stream."""
    return Question(number, MODEL, "low")


def long(rng: random.Random, number: int) -> Question:
    """Return a question for a long stream, or now and then for a short one."""
    return Question(number, MODEL, rng.choice(("high", "high", "low")))


_REFUSED = frozenset({"server_is_overloaded", "upstream_failed"})

KINDS: tuple[Kind, ...] = (
    Kind("replica-killed", "a replica is killed under streams", serve.replica_killed, BROKEN, often=True),
    Kind(
        "replica-killed-early",
        "a replica is killed before any first byte",
        serve.replica_killed,
        make=whole,
        often=True,
    ),
    Kind("replica-frozen", "a replica's process hangs", serve.replica_frozen, HUNG, recovery_limit_s=90),
    Kind(
        "requests-hang",
        "an engine hangs in some requests, and looks well",
        serve.requests_hang,
        HUNG,
    ),
    Kind(
        "poison",
        "a request kills the replicas that it runs on",
        serve.poison,
        Rules(told=BROKEN.told, refused=frozenset({"upstream_failed"})),
        recovery_limit_s=90,
    ),
    Kind("gateway-killed", "a gateway is killed", gateways.killed, Rules(cuts=True), often=True),
    Kind(
        "gateway-ended",
        "a gateway with a hundred streams gets SIGTERM",
        gateways.ended,
        make=short,
        workers=120,
        often=True,
    ),
    Kind("clock-wrong", "one gateway's clock is an hour wrong", gateways.clock_wrong),
    Kind("disk-full", "one gateway has no room for its logs", gateways.disk_full, Rules(silent=True)),
    Kind(
        "clients-leave",
        "clients leave at random tokens",
        gateways.clients_leave,
        make=leaving,
        workers=30,
        often=True,
    ),
    Kind("router-killed", "one of two request routers is killed", serve.router_killed),
    Kind("router-slow", "one of two request routers hangs for 3 s", serve.router_slow),
    Kind("controller-killed", "Serve's controller is killed", serve.controller_killed),
    Kind("head-restarted", "the head's GCS is killed, and starts from its Redis", serve.head_restarted),
    Kind(
        "haproxy-killed",
        "HAProxy is killed",
        serve.haproxy_killed,
        Rules(BROKEN.told, _REFUSED),
        recovery_limit_s=90,
    ),
    Kind("rolling-update", "every replica and router is replaced", serve.rolling_update, make=long),
    Kind("failed-update", "a version is deployed that cannot start", serve.failed_update, make=long),
    Kind("scaled", "a replica is added, and one taken away", serve.scaled, make=long),
    Kind("redis-killed", "Redis is killed, and comes back with its log", redis.killed, often=True),
    Kind("redis-frozen", "Redis hangs", redis.frozen, often=True),
    Kind("redis-flushed", "Redis loses its data", redis.flushed, Rules(forgets=True), often=True),
    Kind("redis-slow", "Redis answers late", redis.slow, often=True),
    Kind("redis-readonly", "Redis refuses to write", redis.read_only, often=True),
    Kind("redis-certificate", "the certificate of Redis has expired", redis.certificate_expired),
)
