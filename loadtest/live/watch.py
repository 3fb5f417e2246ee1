"""Watches the target's own processes while they are loaded, by their metrics: memory and open files."""

import re
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent

from loadtest.bench.statistics import slope

_EVERY_S = 5.0
_MIB = 2**20
_SETTLE = 0.2
"""Share of a run at its beginning that counts for no slope: caches fill, learned costs settle."""
_LINE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sight:
    """What one process told of itself at one time."""

    at_s: float
    """Seconds since 1970."""
    target: str
    """The address of its metrics."""
    rss_mib: float
    open_files: float
    in_flight: float
    """Requests that it has admitted and not ended."""


@dataclass(frozen=True, slots=True)
class Trend:
    """What a process did over a run."""

    target: str
    sights: int
    rss_first_mib: float
    """At the end of the first fifth, like all below."""
    rss_last_mib: float
    rss_slope_mib_per_min: float
    """Of the least-squares line."""
    open_files_first: float
    open_files_last: float

    @property
    def rss_growth(self) -> float:
        """Growth as a share of what there was."""
        return self.rss_last_mib / self.rss_first_mib - 1


class Watcher:
    """Asks each target for its metrics, again and again."""

    def __init__(self, targets: Sequence[str], took: Callable[[Sight], None]) -> None:
        self._targets, self._took = targets, took

    def run(self) -> None:
        """Watch, for ever; a target that does not answer is asked again."""
        while True:
            for target in self._targets:
                try:
                    self._took(parse(_fetch(target), target, time.time()))
                except (OSError, ValueError):
                    continue
            gevent.sleep(_EVERY_S)


def parse(text: str, target: str, at_s: float) -> Sight:
    """Return what a page of metrics tells. Raises ``ValueError`` where it has no memory of a process."""
    values: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        values[name] = values.get(name, 0.0) + float(value)
    if "process_resident_memory_bytes" not in values:
        raise ValueError(f"{target} tells of no process's memory")
    return Sight(
        at_s,
        target,
        values["process_resident_memory_bytes"] / _MIB,
        values.get("process_open_fds", 0.0),
        values.get("gptoss_in_flight", 0.0),
    )


def trends(sights: Sequence[Sight]) -> list[Trend]:
    """Return each target's trend; none of one that was seen less than three times after the first fifth."""
    found = []
    for target in sorted({one.target for one in sights}):
        own = [one for one in sights if one.target == target]
        first_s, last_s = own[0].at_s, own[-1].at_s
        kept = [one for one in own if one.at_s >= first_s + _SETTLE * (last_s - first_s)]
        if len(kept) < 3:
            continue
        line = [((one.at_s - first_s) / 60, one.rss_mib) for one in kept]
        found.append(
            Trend(
                target,
                len(own),
                kept[0].rss_mib,
                kept[-1].rss_mib,
                slope(line),
                kept[0].open_files,
                kept[-1].open_files,
            )
        )
    return found


def _fetch(target: str) -> str:
    with urllib.request.urlopen(target, timeout=_EVERY_S) as response:  # noqa: S310 - http or https: checked
        return str(response.read().decode())
