"""Start the demo, say when it is ready, stop all of it.

Ray Serve and the gateway run as processes of their own, as in production. Whatever they start carries this
run's mark, so that Ctrl-C, a kill, and even ``kill -9`` leave nothing behind and touch nothing else.
"""

import json
import os
import signal
import time
import urllib.error
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from cluster import processes, vocabulary
from cluster.demo import document, machine, ready
from cluster.demo.children import Child, DemoError, lines, spawn
from cluster.demo.document import State
from cluster.demo.machine import Engine, Ports
from cluster.demo.progress import Progress
from cluster.tinymodel import manifest

START_LIMIT_S = 600.0
"""A start that takes longer is given up: several times what two vLLM engines need on two cores."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides."""

    engine: Engine
    ports: Ports
    state: Path
    checkpoint: Path
    vocabulary: Path


class _StopAsked(Exception):  # noqa: N818  a request, not an error
    """Somebody asked the demo to stop."""


def run(options: Options) -> int:
    """Run the demo until it is stopped; return the exit status."""
    console, state = Console(stderr=True), State(options.state)
    try:
        document.prepare(state)
        _check(options, state)
        with _everything_ends(state, console), _stoppable():
            children = _start(options, state, console)
            while True:
                time.sleep(1)
                for child in children:
                    child.check()
    except _StopAsked:
        return 0
    except DemoError as failure:
        console.print(f"[red]The demo failed.[/red] {failure}", highlight=False)
        return 1


def _check(options: Options, state: State) -> None:
    """Raise `DemoError` for whatever would fail later: better now than after a minute."""
    if problems := machine.inspect(options.engine, options.ports, state.folder):
        raise DemoError("\n".join(problems))
    if options.engine == "vllm":
        try:
            manifest.check(options.checkpoint)
            vocabulary.check(options.vocabulary)
        except (manifest.CheckpointError, vocabulary.VocabularyError) as error:
            raise DemoError(f"{error} (`make setup` does it).") from error


def _start(options: Options, state: State, console: Console) -> list[Child]:
    document.write_config(state, options.engine, options.ports, options.checkpoint, options.vocabulary)
    keys = document.client_keys(state)
    with Progress(console) as progress:
        progress.done(f"Starting Ray Serve with two pools, each of {ready.ENGINES[options.engine]}")
        os.environ.update(options.ports.environment())
        serving = spawn("serving", state.log("serving"), "cluster.demo.serve", str(state.config))
        gateway = spawn("gateway", state.log("gateway"), "cluster", "gateway", "--config", str(state.config))
        _follow(serving, gateway, progress)
        for model in document.MODELS:
            progress.doing(f"asking {model} a first question through the gateway")
            progress.done(f"{model}: {_first_answer(options.ports, keys, model, [serving, gateway])}")
        facts = ready.facts(options.ports, keys, state)
        document.write_ready(state, facts)
        block = ready.block(facts, options.engine, progress.elapsed_s)
        Console().print(block, highlight=False, markup=False, soft_wrap=True)
    return [serving, gateway]


def _follow(serving: Child, gateway: Child, progress: Progress) -> None:
    """Show what the serving process tells, until it says that every pool is up."""
    waiting = {"ray", *document.MODELS}
    for line in lines(serving, [gateway], limit_s=START_LIMIT_S):
        event = json.loads(line) if line else {}
        if "ready" in event:
            return
        if event.get("status") == "ready":
            waiting.discard(event["application"])
            progress.done(f"{event['application']} is up")
        progress.doing(f"waiting for {' and '.join(sorted(waiting))}" if waiting else "almost ready")


def _first_answer(ports: Ports, keys: Mapping[str, str], model: str, children: list[Child]) -> str:
    try:
        return ready.ask(ports, keys["demo"], model)
    except urllib.error.HTTPError as error:
        raise DemoError(f"{model} does not answer: {error.code} {error.read().decode()}") from error
    except OSError as error:
        for child in children:
            child.check()
        raise DemoError(f"{model} does not answer: {error}") from error


@contextmanager
def _everything_ends(state: State, console: Console) -> Iterator[None]:
    """Mark what is started from here on, and end all of it afterwards."""
    mark = uuid.uuid4().hex
    guard = processes.guard(mark, os.environ)
    os.environ[processes.MARK] = mark
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        console.print("\nStopping …")
        state.ready.unlink(missing_ok=True)
        console.print(f"Stopped: {processes.end(mark)} processes ended.", highlight=False)
        guard.communicate()


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into `_StopAsked`."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _StopAsked

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    yield
