"""The gateway process: both HTTP servers on one event loop, from start to a graceful end."""

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.types import ASGIApp

from cluster.gateway import stalls
from cluster.gateway.admission import Admission, Gate
from cluster.gateway.app import build, build_refusing
from cluster.gateway.auth import Authenticator
from cluster.gateway.cost_keeper import CostKeeper
from cluster.gateway.flow import Director
from cluster.gateway.health import build_admin
from cluster.gateway.http_cycle import App
from cluster.gateway.http_protocol import Refusing
from cluster.gateway.http_server import HttpServer
from cluster.gateway.intake import address_reader
from cluster.gateway.logs import LineWriter, Log, all_logging_to, loop_failed, timestamp
from cluster.gateway.models import Models
from cluster.gateway.plan import cost_model
from cluster.gateway.relay import RelaySettings
from cluster.gateway.retries import Retries
from cluster.gateway.telemetry import Telemetry
from cluster.gateway.upstream import Engines
from cluster.settings import LimitSettings, Settings
from cluster.stores.identity import Identity, open_identity
from cluster.stores.key_index import load_pepper
from cluster.stores.memory_limits import MemoryLimits
from cluster.stores.records import KeyStoreError
from cluster.stores.redis_dial import RedisUnfit
from cluster.stores.redis_limits import RedisLimits

logger = logging.getLogger(__name__)

_COLLECT_AFTER = 20_000
"""Objects made and not freed since the garbage collector last looked, before it looks again."""
_ABORT_S = 5
"""Seconds for requests to end once they were told to."""


class StartError(Exception):
    """The gateway cannot start; the message says why and what to do."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. A second signal ends the drain.

    Raises `StartError` when a file is missing or an address is taken.
    """
    writer = LineWriter(sys.stdout.buffer)
    try:
        log = Log(writer, settings.logging)
        with (
            all_logging_to(log, settings.logging),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_serve(settings, log))
    finally:
        writer.close()
    return 0


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one gateway, put together."""

    app: App
    admin: ASGIApp
    refusing: Refusing
    gate: Gate
    engines: Engines
    identity: Identity
    costs: CostKeeper
    limits: MemoryLimits | RedisLimits
    telemetry: Telemetry


def assemble(settings: Settings, log: Log) -> Gateway:
    """Put a gateway together; needs a running event loop. Raises `StartError`."""
    try:
        pepper = load_pepper(settings.auth.pepper_file)
    except KeyStoreError as error:
        raise StartError(str(error)) from error
    identity = open_identity(
        settings.auth,
        pepper,
        defaults=settings.limits.defaults,
        clock=time.time,
        changed=partial(_tell_changes, log),
    )
    registry, gate = CollectorRegistry(), Gate()
    ProcessCollector(registry=registry)
    address_of = address_reader(settings.gateway.trusted_proxies)
    telemetry = Telemetry(registry, log, now=time.monotonic, wall=time.time, address_of=address_of)
    log.watch_lost(telemetry.lines_lost)
    telemetry.watch_objectives(settings.models)
    telemetry.watch_keys(identity.keys.age_s)
    for issuer in identity.tokens.issuers if identity.tokens else ():
        telemetry.watch_issuer(issuer.settings.name, issuer.keys.age_s)
    engines = Engines(settings.serving.url, _engine_key(settings.serving.engine_key_file))
    limits = _limit_store(settings.limits, telemetry.limiter_degraded)
    costs = CostKeeper(cost_model(settings), gate, settings.gateway.costs_file)
    admission = Admission(settings.serving.pools, settings.gateway.admission.bounds, time.monotonic)
    for pool, waiting in admission.rooms.items():
        telemetry.watch_pool(pool, slots=waiting.slots, waiting=waiting.waiting)
    stream, retries = settings.gateway.stream, Retries(pepper)
    director = Director(
        settings=settings,
        authenticate=Authenticator(identity, address_of, now=time.monotonic),
        limits=limits,
        costs=costs.model,
        gate=gate,
        relays=RelaySettings(engines, pepper, stream, time.monotonic, retries, admission),
        telemetry=telemetry,
    )
    return Gateway(
        app=build(director, Models(settings), now=time.monotonic),
        admin=build_admin(registry, identity, gate),
        refusing=build_refusing(telemetry, now=time.monotonic),
        gate=gate,
        engines=engines,
        identity=identity,
        costs=costs,
        limits=limits,
        telemetry=telemetry,
    )


def _limit_store(settings: LimitSettings, on_degraded: Callable[[bool], None]) -> MemoryLimits | RedisLimits:
    longest_s = settings.max_request_s
    if settings.redis is None:
        return MemoryLimits(time.time, max_request_s=longest_s)
    return RedisLimits(settings.redis, max_request_s=longest_s, clock=time.time, on_degraded=on_degraded)


def listen(address: str, setting: str) -> socket.socket:
    """Return a socket bound to ``address`` (``host:port``). Raises `StartError`, which names ``setting``."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol is named, or asyncio does not switch Nagle off, and an answer in two writes takes 40 ms
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        bound.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "another process uses it" if taken else str(error)
        raise StartError(
            f"cannot listen on {address}: {reason}. End that process, or set {setting} to another address."
        ) from error
    return bound


async def _serve(settings: Settings, log: Log) -> None:
    asyncio.get_running_loop().set_exception_handler(loop_failed)
    async with AsyncExitStack() as stack:
        api_socket = stack.enter_context(listen(settings.gateway.listen, "gateway.listen"))
        admin_socket = stack.enter_context(listen(settings.gateway.admin_listen, "gateway.admin_listen"))
        gateway = assemble(settings, log)
        stack.push_async_callback(gateway.engines.close)
        await _open(gateway.limits, stack)
        http, refusing = settings.gateway.http, gateway.refusing
        api = HttpServer(gateway.app, http, refusing)
        admin = HttpServer(gateway.admin, http, refusing)
        async with asyncio.TaskGroup() as tasks:
            followers = [tasks.create_task(one.follow()) for one in (gateway.identity, gateway.costs)]
            followers.append(tasks.create_task(stalls.watch(gateway.telemetry.loop_stalled)))
            tasks.create_task(api.serve([api_socket]))
            tasks.create_task(admin.serve([admin_socket]))
            logger.info("listening on %s", settings.gateway.listen)
            _spare_the_collector()
            await _until_drained(gateway.gate, api, settings.gateway.stream.drain_s)
            api.should_exit = admin.should_exit = True
            for follower in followers:
                follower.cancel()
        gateway.costs.save()


def _spare_the_collector() -> None:
    """Let the garbage collector leave alone what is loaded, and look at the rest less often.

    References free nearly all that a request makes; the collector only finds cycles, as of exceptions, and a
    walk over all modules for them costs every request 5 % and some of them tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


async def _open(limits: MemoryLimits | RedisLimits, stack: AsyncExitStack) -> None:
    if isinstance(limits, RedisLimits):
        try:
            await stack.enter_async_context(limits)
        except RedisUnfit as error:
            raise StartError(f"limits.redis: {error}") from error


async def _until_drained(gate: Gate, api: HttpServer, drain_s: float) -> None:
    """Return when a signal has come and every request has ended, or was ended."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    await signals.get()
    logger.info("draining for up to %g s; a second signal ends it", drain_s)
    gate.drain()
    api.drain()
    emptied, hurried = asyncio.ensure_future(gate.wait_empty()), asyncio.ensure_future(signals.get())
    await asyncio.wait((emptied, hurried), timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    gate.abort()
    with suppress(TimeoutError):  # a client that reads nothing must not keep the process
        await asyncio.wait_for(emptied, _ABORT_S)


def _tell_changes(log: Log, entries: list[str]) -> None:
    """Write an audit line for each record of a tenant or key that has changed, and now is in force."""
    for entry in entries:
        log.record("audit", {"ts": timestamp(time.time()), "act": "record.change", "entry": entry})


def _engine_key(path: Path) -> str:
    hint = f"Create it with: head -c 32 /dev/urandom | base64 > {path}"
    try:
        key = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise StartError(f"engine key file {path}: no such file. {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"engine key file {path}: cannot be read: {error}") from error
    if not key or any(char.isspace() for char in key):
        raise StartError(f"engine key file {path}: it must hold one word and nothing else. {hint}")
    return key
