"""One benchmark: start the stack, load both systems in turn with the same arrivals, stop the stack."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtest import machine
from loadtest.effort import arrivals, client, stack
from loadtest.effort.results import SYSTEMS, Found, Run, System

Tell = Callable[[str], None]
_WARM_S = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is run."""

    runs: int = 3
    seconds: float = 120.0
    load: float = 1.4
    """Load as a share of the capacity."""
    seed: int = 1
    """Seed of the first run; the others follow."""

    @property
    def per_s(self) -> float:
        """Requests per second."""
        return arrivals.rate(self.load, stack.CAPACITY_TOKENS_PER_S)


def measure(options: Options, folder: Path, *, done: Tell, doing: Tell) -> Run:
    """Return what was found. Raises `cluster.demo.children.DemoError` when the stack does not start."""
    run = Run(_about(options))
    with stack.running(folder, doing) as live:
        done("the stack is up")
        for system in SYSTEMS:
            _load(live, system, Options(seconds=_WARM_S, load=0.7), grace_s=0)
        for number in range(options.runs):
            seeded = Options(options.runs, options.seconds, options.load, options.seed + number)
            for system in SYSTEMS if number % 2 == 0 else SYSTEMS[::-1]:
                doing(f"run {number + 1} of {options.runs}: {system}, {options.seconds:g} s")
                found = _load(live, system, seeded, grace_s=arrivals.DEADLINES_S["low"] + 1)
                run.found[system].append(found)
                done(f"run {number + 1}: {system}: {_summary(found)}")
    return run


def _load(live: stack.Stack, system: System, options: Options, *, grace_s: float) -> Found:
    """Load one system, and wait until nothing is left of it."""
    planned = arrivals.arrivals(per_s=options.per_s, seconds=options.seconds, seed=options.seed)
    found = asyncio.run(
        client.load(
            live.targets[system],
            planned,
            seconds=options.seconds,
            grace_s=grace_s,
            ttft_s=stack.TTFT_S,
        )
    )
    live.await_idle()
    return found


def _summary(found: Found) -> str:
    parts = [f"{effort} p95 wait {waits.p95_s:.2f} s" for effort, waits in found.by_effort().items()]
    return f"{', '.join(parts)}; {found.tokens_per_s:.0f} tokens/s"


def _about(options: Options) -> dict[str, str]:
    means = ", ".join(f"{effort} {tokens}" for effort, tokens in arrivals.MEAN_TOKENS.items())
    return {
        **machine.facts(),
        "runs": str(options.runs),
        "seconds": f"{options.seconds:g}",
        "load": f"{options.load:g} of {stack.CAPACITY_TOKENS_PER_S:g} tokens/s: {options.per_s:.2f} a second",
        "engines": f"{stack.REPLICAS} replicas of {stack.SLOTS} slots, {stack.TOKEN_MS} ms a token",
        "outputs": f"means in tokens: {means}; even within 40 % around the mean thought and answer",
        "seeds": ", ".join(str(options.seed + number) for number in range(options.runs)),
    }
