"""``python -m tests.faults``: break the whole stack in every way, again and again."""

import asyncio
import itertools
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.faults import results, stack, trial
from tests.faults.kinds import KINDS, Kind

ROOT = Path(__file__).resolve().parents[2]
OFTEN, SELDOM = 60, 20
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def faults(
    each: Annotated[int, typer.Option(min=1, help="Trials of each kind.")] = 3,
    full: Annotated[bool, typer.Option(help=f"{OFTEN} or {SELDOM} trials of each kind (hours).")] = False,
    minutes: Annotated[
        float, typer.Option(min=1, help="No trial begins later than that; not with --full.")
    ] = 19.0,
    kinds: Annotated[str, typer.Option(help="Names of kinds, with commas between; all by default.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the first trial of each kind.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for faults.json and faults.md.")] = ROOT
    / "loadtest"
    / "results",
) -> None:
    """Break the whole stack in every way under load, and compare what clients got with what was charged.

    Real Ray Serve with two simulated replicas, two gateways and a real Redis. Each trial strikes at a random
    moment, waits until all is up again, and compares three ledgers: what each client got (status, words,
    usage), the usage lines of the gateways, and what the limits in Redis hold. A trial has survived when no
    request hung, ended as if it were complete, got a word twice, was tried more than twice, or was told what
    this fault may not cause; when every reservation was settled; and when nothing failed after the recovery.
    The exit status is 0 only when every trial was survived.
    """
    console = Console(stderr=True)
    wanted = set(filter(None, kinds.split(",")))
    if unknown := wanted - {kind.name for kind in KINDS}:
        raise typer.BadParameter(f"no such kind: {', '.join(sorted(unknown))}")
    chosen = [kind for kind in KINDS if not wanted or kind.name in wanted]
    counts = {kind: (OFTEN if kind.often else SELDOM) if full else each for kind in chosen}
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    begun_s = time.monotonic()
    end_s = math.inf if full else begun_s + 60 * minutes

    def note(trials: Sequence[trial.Trial]) -> None:
        """Write down what is known so far, so that a night that is cut short is not lost."""
        passed = round((time.monotonic() - begun_s) / 60, 1)
        results.write(out, {**machine(), "seed": seed, "minutes": passed}, trials)
        console.print(told(trials[-1]), highlight=False, soft_wrap=True)

    trials = asyncio.run(run(folder, counts, seed=seed, end_s=end_s, note=note))
    bad = sum(bool(one.findings) for one in trials)
    typer.echo((out / "faults.md").read_text())
    typer.echo(f"{len(trials) - bad} of {len(trials)} trials survived.")
    if bad:
        console.print(f"The logs of all processes are in {folder}", highlight=False)
        raise typer.Exit(1)
    shutil.rmtree(folder)


async def run(
    folder: Path,
    counts: Mapping[Kind, int],
    *,
    seed: int,
    end_s: float,
    note: Callable[[Sequence[trial.Trial]], None],
) -> list[trial.Trial]:
    """Run the trials, kind after kind and round after round, on one stack; begin none after ``end_s``."""
    numbers, trials = itertools.count(1), list[trial.Trial]()
    async with stack.running(folder) as up:
        for number in range(max(counts.values())):
            for kind, count in counts.items():
                if number >= count or (trials and time.monotonic() > end_s):
                    continue
                trials.append(await trial.run(up, kind, seed + number, numbers))
                note(trials)
        left = await trial.leases_end(up)
    trials[-1] = replace(trials[-1], findings=(*trials[-1].findings, *left))
    note(trials)
    return trials


def told(made: trial.Trial) -> str:
    """Return a trial in a few lines."""
    ends = ", ".join(f"{count} {end}" for end, count in made.ends.items())
    first = f"{made.kind} (seed {made.seed}): {ends}; whole again after {made.recovery_s:.1f} s"
    return "\n".join([first, *(f"  ! {finding}" for finding in made.findings)])


def machine() -> dict[str, str]:
    """Return when and on what the trials ran."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "versions": f"Python {platform.python_version()}, Ray {version('ray')}, simulated engine",
    }


if __name__ == "__main__":
    app()
