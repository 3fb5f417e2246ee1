"""One run: start everything, measure round by round, stop everything."""

import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from loadtest import machine
from loadtest.bench import measure, peers
from loadtest.bench.answers import MODEL
from loadtest.bench.client import Target
from loadtest.bench.contenders import CONTENDERS, OURS, Contender, Site
from loadtest.bench.measure import LoadError, Meters
from loadtest.bench.procfs import Usage
from loadtest.bench.results import REQUEST_CLIENTS, Result, Round, Run
from loadtest.bench.servers import BenchError, Cores, Server, Servers, cores, free_port, program

T = TypeVar("T")
Tell = Callable[[str], None]
_POLL_S = 0.2
_ENGINE_READY_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a run does."""

    only: tuple[str, ...] = tuple(CONTENDERS)
    rounds: int = 3
    seconds: float = 4.0
    """Length of each measurement."""
    clients: tuple[int, ...] = (1, REQUEST_CLIENTS, 256)
    streams: bool = True
    soak_s: float | None = 300.0
    """Length of the soak; None: no soak."""


@dataclass(slots=True)
class _Live:
    """A contender that answers."""

    target: Target
    meters: Meters
    streams: int = measure.STREAMS
    """Streams that it took in the last round."""


@dataclass(frozen=True, slots=True)
class _Redis:
    """The Redis that keeps limits."""

    port: int
    server: Server


class Bench:
    """Runs the benchmark. ``done`` is told each finished step, ``doing`` the one at hand."""

    def __init__(self, options: Options, folder: Path, *, done: Tell, doing: Tell) -> None:
        self._options, self._folder, self._done, self._doing = options, folder, done, doing
        self._cores: Cores = cores(sorted(os.sched_getaffinity(0)))

    def run(self) -> Run:
        """Return what was found. Raises `BenchError` when not even the engine can be started."""
        results = {name: Result(name, CONTENDERS[name].title()) for name in self._options.only}
        run = Run(_about(self._options), Result("direct", "the engine alone"), results)
        self._install(results)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._cores.load})
        try:
            with Servers(self._folder) as servers:
                self._measure(servers, run)
        finally:
            os.sched_setaffinity(0, before)
        return run

    def _install(self, results: dict[str, Result]) -> None:
        for name, result in results.items():
            if not peers.lock(name).exists() or peers.installed(name):
                continue
            self._doing(f"installing {result.title} (once; LiteLLM takes a minute or two)")
            try:
                peers.install(name)
                self._done(f"installed {result.title}")
            except BenchError as error:
                self._fail(result, str(error))

    def _measure(self, servers: Servers, run: Run) -> None:
        engine_port = free_port()
        command = [sys.executable, "-m", "loadtest.bench.engine", str(engine_port)]
        engine = servers.start(
            "engine", command, core=self._cores.engine, environment={"PYTHONPATH": str(machine.ROOT)}
        )
        _await_answer(engine, Target(engine_port, "none", MODEL), _ENGINE_READY_S)
        limits = self._start_redis(servers)
        live = {
            name: started
            for name, result in run.results.items()
            if not result.failure
            and (started := self._start(servers, CONTENDERS[name], result, engine_port, limits))
        }
        direct = _Live(Target(engine_port, "none", MODEL), Meters(_nothing, _nothing))
        for number in range(1, self._options.rounds + 1):
            self._one_round(run, direct, live, number)
        if self._options.soak_s is not None and OURS in live:
            self._soak(run, live[OURS])

    def _start_redis(self, servers: Servers) -> _Redis:
        """Start a Redis as production has it: every write is in a log, and nothing is ever evicted."""
        port = free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": self._folder, "save": "", "appendonly": "yes"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [program("redis-server", "redis-server"), *words]
        return _Redis(port, servers.start("redis", command, core=self._cores.redis))

    def _start(
        self, servers: Servers, contender: Contender, result: Result, engine_port: int, limits: _Redis
    ) -> _Live | None:
        self._doing(f"starting {result.title}")
        folder = self._folder / contender.name
        folder.mkdir()
        site = Site(folder, free_port(), engine_port, limits.port)
        try:
            launch = contender.prepare(site)
            server = servers.start(
                contender.name, launch.command, core=self._cores.contender, environment=launch.environment
            )
            target = Target(site.port, launch.key, MODEL)
            _await_answer(server, target, contender.ready_s)
        except (BenchError, OSError) as error:
            self._fail(result, str(error))
            return None
        self._done(f"started {result.title}")
        redis = limits.server.usage if contender.name == OURS else _nothing
        return _Live(target, Meters(server.usage, redis))

    def _one_round(self, run: Run, direct: _Live, live: dict[str, _Live], number: int) -> None:
        """Measure everyone once; each round begins with another, so that nobody keeps a place."""
        run.direct.rounds.append(self._figures(direct, f"round {number}: the engine alone", streams=False))
        names = list(live)
        shift = (number - 1) % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            result = run.results[name]
            if result.failure:
                continue
            try:
                found = self._figures(live[name], f"round {number}: {result.title}", self._options.streams)
            except (LoadError, BenchError) as error:
                self._fail(result, str(error))
                continue
            result.rounds.append(found)
            self._done(f"round {number}: {result.title}: {_summary(found)}")

    def _figures(self, live: _Live, what: str, streams: bool) -> Round:
        found, seconds = {}, self._options.seconds
        for clients in self._options.clients:
            self._doing(f"{what}, {clients} client{'s' if clients > 1 else ''}")
            found[clients] = _await(
                measure.requests(live.target, clients, self._options.seconds, live.meters)
            )
        chunks = None
        if streams:
            self._doing(f"{what}, {live.streams} streams")
            chunks = _await(measure.chunks(live.target, live.streams, seconds, live.meters))
            live.streams = chunks.streams
        return Round(found, chunks, live.meters.contender().rss_mib)

    def _soak(self, run: Run, live: _Live) -> None:
        assert self._options.soak_s is not None
        what = f"soak, {measure.SOAK_STREAMS} streams"
        try:
            run.soak = _await(
                measure.soak(
                    live.target,
                    self._options.soak_s,
                    live.meters,
                    lambda word: self._doing(f"{what}: {word}"),
                )
            )
        except LoadError as error:
            run.soak_failure = str(error)
            self._done(f"{what}: FAILED: {error}")
            return
        self._done(f"{what}: {run.soak.tokens:,} tokens, {run.soak.rss_slope_mib_per_min:+.2f} MiB/min")

    def _fail(self, result: Result, reason: str) -> None:
        result.failure = reason
        self._done(f"{result.title}: NOT MEASURED: {reason}")


def _await(work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


def _nothing() -> Usage:
    return Usage(0.0, 0.0)


def _await_answer(server: Server, target: Target, limit_s: float) -> None:
    """Wait for the first good answer. Raises `BenchError` with the end of the log when none comes."""
    deadline_s = time.monotonic() + limit_s
    told = "it does not listen"
    while time.monotonic() < deadline_s:
        server.check()
        try:
            told = _first_line(target)
        except OSError as error:
            told = str(error)
        if told.startswith("HTTP/1.1 200"):
            return
        time.sleep(_POLL_S)
    raise BenchError(f"no good answer within {limit_s:g} s, but {told!r}:\n{server.tail()}")


def _first_line(target: Target) -> str:
    with socket.create_connection(("127.0.0.1", target.port), timeout=5) as connection:
        connection.sendall(target.whole().data)
        return connection.recv(4096).partition(b"\r\n")[0].decode("latin-1")


def _summary(found: Round) -> str:
    parts = [f"{one.cpu_us:.0f} µs/request at {clients}" for clients, one in found.requests.items()]
    if found.chunks is not None:
        parts.append(f"{found.chunks.cpu_us:.1f} µs/chunk at {found.chunks.share:.0%}")
    return ", ".join(parts)


def _about(options: Options) -> dict[str, str]:
    return {
        **machine.facts(),
        "rounds": str(options.rounds),
        "seconds": f"{options.seconds:g}",
    }
