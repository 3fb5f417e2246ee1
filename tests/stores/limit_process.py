"""Gateways' stores in processes of their own (`limit_crowd`), led from a test."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from cluster.settings import RedisSettings
from tests.stores.limit_crowd import Run, Sight

ROOT = Path(__file__).resolve().parents[2]
READ_S = 60


class LimitProcess:
    """One such process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def play(self, run: Run) -> Sight:
        """Let its crowd loose; return what it saw."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(run)).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), READ_S)
        assert line, "a gateway's process has ended"
        return Sight(**json.loads(line))

    async def kill(self) -> None:
        """End it without any time to say so."""
        self._process.kill()
        await self._process.wait()

    async def end(self) -> None:
        """End its input, and so it; by force where it has failed already."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        finally:
            with suppress(ProcessLookupError):
                self._process.kill()


@asynccontextmanager
async def limit_process(
    settings: RedisSettings, name: str, *, lease_s: float = 1860
) -> AsyncIterator[LimitProcess]:
    """Run one while inside; a reservation that it does not settle holds for ``lease_s``."""
    command = ("-m", "tests.stores.limit_crowd", settings.model_dump_json(), name, str(lease_s))
    process = LimitProcess(
        await asyncio.create_subprocess_exec(
            sys.executable, *command, stdin=PIPE, stdout=PIPE, cwd=ROOT, limit=2**24
        )
    )
    yield process
    await process.end()
