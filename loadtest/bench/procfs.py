"""What a contender costs, read from ``/proc``: CPU time and memory of all its processes.

A contender is started as the leader of a session of its own, so that its processes, whatever they fork, are
those of the session.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a set of processes."""

    cpu_s: float
    """User and system time since they started, in steps of a clock tick (10 ms)."""
    rss_mib: float
    """Resident memory; pages shared between them count once for each."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What is used of one process's ``stat``."""

    session: int
    usage: Usage


def parse_stat(text: str) -> Stat:
    """Read ``/proc/<pid>/stat``; the name in it may hold anything, so fields count from the last bracket."""
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Stat(int(fields[3]), Usage(ticks / _TICKS_PER_S, int(fields[21]) * _PAGE_MIB))


def usage(session: int, *, proc: Path = PROC) -> Usage:
    """Return what the processes of ``session`` have used."""
    return _sum(stat.usage for stat in _stats(proc) if stat.session == session)


def _stats(proc: Path) -> Iterable[Stat]:
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            yield parse_stat((folder / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile


def _sum(usages: Iterable[Usage]) -> Usage:
    found = list(usages)
    return Usage(sum(one.cpu_s for one in found), sum(one.rss_mib for one in found))
