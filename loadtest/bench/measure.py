"""The measurements: each runs clients against one target for a while and says what came of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtest.bench.client import Ask, Client, Tally, Target
from loadtest.bench.procfs import Usage
from loadtest.bench.statistics import percentile, slope

STREAMS, STREAM_INTERVAL_S = 64, 0.005
MAX_SHARE = 0.60
"""Above it reads begin to coalesce, and the cost of a chunk looks lower than it is."""
STREAM_TOKENS = 6000
"""More than any window needs; streams are cut at its end."""
SOAK_STREAMS, SOAK_INTERVAL_S = 500, 0.05
_SOAK_SHORT_TOKENS = 400
_SOAK_SETTLE_SHARE = 0.2
_SOAK_SAMPLE_S = 2.0
_WARM_S = 0.5
_SLOW_S = 20.0
"""Longest time added to a window for a contender that has not answered each client once."""
_CONNECTS_AT_ONCE = 32


class LoadError(Exception):
    """A target did not answer as it must; the message says how."""


class SilentError(LoadError):
    """A target gave no answer at all in the time that it had."""


@dataclass(frozen=True, slots=True)
class Meters:
    """Read what the processes under test have used."""

    contender: Callable[[], Usage]
    redis: Callable[[], Usage]


@dataclass(frozen=True, slots=True)
class Requests:
    """Whole answers, asked for by clients that never pause."""

    clients: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU of the contender per request."""
    redis_cpu_us: float


@dataclass(frozen=True, slots=True)
class Chunks:
    """Streams at a pace that leaves the contender time to spare."""

    streams: int
    per_s: float
    """Chunks that arrived per second, over all streams."""
    expected_per_s: float
    share: float
    """Share of one core that the contender used, 0 to 1."""
    cpu_us: float
    """CPU of the contender per chunk."""
    redis_cpu_us: float
    events_per_write: float


@dataclass(frozen=True, slots=True)
class Soak:
    """Many streams for minutes."""

    streams: int
    seconds: float
    tokens: int
    answers: int
    failures: dict[str, int]
    """Lost, doubled and reordered tokens among them; empty: every sequence number arrived."""
    rss_mib: list[tuple[float, float]]
    """Seconds since the start, and resident memory."""
    rss_slope_mib_per_min: float
    share: float


async def requests(target: Target, clients: int, seconds: float, meters: Meters) -> Requests:
    """Measure whole answers. Raises `LoadError`."""
    ask, tally = target.whole(), Tally()
    async with _load(target, [lambda: ask] * clients, tally) as running:
        await _sleep_until(lambda: all(client.answers for client in running), _WARM_S, _SLOW_S)
        tally.reset()
        before, redis_before, start_s = meters.contender(), meters.redis(), time.perf_counter()
        await _sleep_until(lambda: tally.answers >= clients, seconds, _SLOW_S)
        took_s = time.perf_counter() - start_s
        after, redis_after, answers = meters.contender(), meters.redis(), tally.answers
        latencies = list(tally.latencies_s)
    _check(tally, at_least_one=answers)
    return Requests(
        clients=clients,
        per_s=answers / took_s,
        p50_ms=percentile(latencies, 0.50) * 1e3,
        p99_ms=percentile(latencies, 0.99) * 1e3,
        cpu_us=(after.cpu_s - before.cpu_s) / answers * 1e6,
        redis_cpu_us=(redis_after.cpu_s - redis_before.cpu_s) / answers * 1e6,
    )


async def chunks(target: Target, streams: int, seconds: float, meters: Meters) -> Chunks:
    """Measure streams, fewer of them until the contender keeps to `MAX_SHARE`. Raises `LoadError`."""
    while True:
        try:
            probe = await _chunks(target, streams, min(1.0, seconds), meters)
        except SilentError:
            if streams == 1:
                raise
            streams = max(1, streams // 8)  # so many that not even the first token comes in time
            continue
        if probe.share <= MAX_SHARE or streams == 1:
            found = await _chunks(target, streams, seconds, meters)
            if found.share <= MAX_SHARE or streams == 1:
                return found
            probe = found
        streams = max(1, min(streams - 1, int(streams * MAX_SHARE / probe.share * 0.9)))


async def _chunks(target: Target, streams: int, seconds: float, meters: Meters) -> Chunks:
    ask, tally = target.stream(STREAM_TOKENS, STREAM_INTERVAL_S), Tally()
    async with _load(target, [lambda: ask] * streams, tally):
        await _sleep_until(lambda: tally.tokens >= streams, _WARM_S, _SLOW_S)
        tally.reset()
        before, redis_before, start_s = meters.contender(), meters.redis(), time.perf_counter()
        await asyncio.sleep(seconds)
        took_s = time.perf_counter() - start_s
        after, redis_after = meters.contender(), meters.redis()
        tokens, writes = tally.tokens, tally.writes
    _check(tally, at_least_one=tokens)
    cpu_s = after.cpu_s - before.cpu_s
    return Chunks(
        streams=streams,
        per_s=tokens / took_s,
        expected_per_s=streams / STREAM_INTERVAL_S,
        share=cpu_s / took_s,
        cpu_us=cpu_s / tokens * 1e6,
        redis_cpu_us=(redis_after.cpu_s - redis_before.cpu_s) / tokens * 1e6,
        events_per_write=tokens / max(writes, 1),
    )


async def soak(target: Target, seconds: float, meters: Meters, tell: Callable[[str], None]) -> Soak:
    """Hold `SOAK_STREAMS` streams open, half of them for the whole time and half renewed again and again.

    Failures are counted, not raised. ``tell`` is given a word on progress now and then.
    """
    tally, start_s = Tally(), time.perf_counter()
    whole = target.stream(round(seconds / SOAK_INTERVAL_S), SOAK_INTERVAL_S)
    short = target.stream(min(_SOAK_SHORT_TOKENS, whole.tokens), SOAK_INTERVAL_S)
    end_s = start_s + seconds

    def renewed() -> Ask | None:
        return short if time.perf_counter() + short.tokens * SOAK_INTERVAL_S < end_s else None

    asks = [renewed if index % 2 else _once(whole) for index in range(SOAK_STREAMS)]
    before, samples = meters.contender(), list[tuple[float, float]]()
    async with _load(target, asks, tally) as running:
        deadline_s = end_s + max(20.0, seconds * 0.2)
        while not all(client.ended.is_set() for client in running) and time.perf_counter() < deadline_s:
            await asyncio.sleep(min(_SOAK_SAMPLE_S, seconds / 10))
            now_s = time.perf_counter() - start_s
            if now_s <= seconds:
                samples.append((now_s, meters.contender().rss_mib))
            tell(f"{now_s:.0f} of {seconds:.0f} s, {tally.tokens:,} tokens, {samples[-1][1]:.1f} MiB")
        unended = sum(not client.ended.is_set() for client in running)
    if unended:
        tally.failures["stream not ended in time"] += unended
    took_s = time.perf_counter() - start_s
    settled = [point for point in samples if point[0] >= seconds * _SOAK_SETTLE_SHARE]
    return Soak(
        streams=SOAK_STREAMS,
        seconds=seconds,
        tokens=tally.tokens,
        answers=tally.answers,
        failures=dict(tally.failures),
        rss_mib=samples,
        rss_slope_mib_per_min=slope(settled) * 60,
        share=(meters.contender().cpu_s - before.cpu_s) / took_s,
    )


def _once(ask: Ask) -> Callable[[], Ask | None]:
    left = [ask]
    return lambda: left.pop() if left else None


@asynccontextmanager
async def _load(
    target: Target, asks: list[Callable[[], Ask]] | list[Callable[[], Ask | None]], tally: Tally
) -> AsyncIterator[list[Client]]:
    """Run one client for each of ``asks``; at the end cut what is under way."""
    running = [Client(tally, ask) for ask in asks]
    try:
        for first in range(0, len(running), _CONNECTS_AT_ONCE):
            batch = running[first : first + _CONNECTS_AT_ONCE]
            await asyncio.gather(*(client.connect(target.port) for client in batch))
        yield running
    except OSError as error:
        raise LoadError(f"cannot connect: {error}") from error
    finally:
        for client in running:
            client.stop()
        await asyncio.sleep(_WARM_S)  # let the other sides see it


async def _sleep_until(done: Callable[[], bool], seconds: float, more_s: float) -> None:
    """Sleep for ``seconds``, and for up to ``more_s`` more until ``done``."""
    await asyncio.sleep(seconds)
    deadline_s = time.perf_counter() + more_s
    while not done() and time.perf_counter() < deadline_s:  # noqa: ASYNC110 - a load wakes nobody, it counts
        await asyncio.sleep(0.05)


def _check(tally: Tally, *, at_least_one: int) -> None:
    told = ", ".join(f"{what} ({count} times)" for what, count in tally.failures.items())
    if not at_least_one:
        raise LoadError(f"no answer came: {told}") if told else SilentError("no answer came: it is silent")
    if told:
        raise LoadError(told)
