"""What is kept of each request: one line of JSON, from which every figure follows. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from cluster.core.effort import Effort
from loadtest.live.plan import Kind
from loadtest.live.sse import Seen

Outcome = Literal["ok", "refused", "left", "failed", "unfinished"]
"""``refused``: 429 or 503, also as an error event. ``left``: the user's patience ended. ``failed``: any other
end that is not a whole answer. ``unfinished``: the load test itself ended first, which is nobody's error."""

_RATIO = 1.02
"""Between the bounds of a bucket: a gap is known to within 1 %."""
_LEAST_S = 1e-6


def bucket(gap_s: float) -> int:
    """Return the bucket that holds a gap."""
    return max(0, round(math.log(max(gap_s, _LEAST_S) / _LEAST_S, _RATIO)))


def gap_s(number: int) -> float:
    """Return the gap in the middle of a bucket, in seconds."""
    return _LEAST_S * float(_RATIO**number)


@dataclass(frozen=True, slots=True)
class Record:
    """One request."""

    at_s: float
    """When it was sent, in seconds since 1970."""
    kind: Kind
    effort: Effort
    """As it was asked for."""
    turn: int
    """Its number in the conversation, from 1 on."""
    users: int
    """Users that its process had then."""
    outcome: Outcome
    reason: str
    """Why it is not ``ok``: an error's code, or what happened."""
    status: int
    """Of HTTP; 0: there was no answer."""
    request_id: str
    """The gateway's ``x-request-id``, which its usage line has too."""
    fingerprint: str
    """``system_fingerprint``: it changes with the engine."""
    ttft_s: float | None
    """Until the first event that shows generation has begun; None: there was none."""
    answer_s: float | None
    """Until the first text or call that is no reasoning."""
    e2e_s: float
    """Until the end, whatever it was."""
    prompt_tokens: int
    output_tokens: int
    reasoning_tokens: int
    """All three as the usage says; 0 of an answer that did not get that far."""
    chunks: int
    """Events that carried text."""
    gap_sum_s: float
    """Sum of the times between such events of one kind; between kinds the format's own tokens pass."""
    gaps: dict[int, int] = field(default_factory=dict)
    """The same times as a histogram, by `bucket`."""

    @property
    def ended_s(self) -> float:
        """When it ended, in seconds since 1970."""
        return self.at_s + self.e2e_s

    @property
    def good(self) -> bool:
        """Whether it came to a whole answer."""
        return self.outcome == "ok"

    @property
    def tokens_per_s(self) -> float | None:
        """Output speed of one stream, hidden tokens included, once it had begun; None: not known."""
        if not self.good or self.ttft_s is None or self.output_tokens < 2 or self.e2e_s <= self.ttft_s:
            return None
        return (self.output_tokens - 1) / (self.e2e_s - self.ttft_s)


class Timeline:
    """One request's times, as its events come in."""

    def __init__(self, sent_s: float) -> None:
        self._sent_s = sent_s
        self.ttft_s: float | None = None
        self.answer_s: float | None = None
        self.chunks = 0
        self.gap_sum_s = 0.0
        self.gaps: Counter[int] = Counter()
        self._last: Seen = ""
        self._last_s = sent_s

    def see(self, seen: Seen, now_s: float) -> None:
        """Take one event, and when it came."""
        if seen in ("", "end", "error"):
            return
        if self.ttft_s is None:
            self.ttft_s = now_s - self._sent_s
        if seen == "begun":
            return
        if self.answer_s is None and seen != "reasoning":
            self.answer_s = now_s - self._sent_s
        self.chunks += 1
        if seen == self._last:
            gap = now_s - self._last_s
            self.gap_sum_s += gap
            self.gaps[bucket(gap)] += 1
        self._last, self._last_s = seen, now_s


def dump(record: Record) -> bytes:
    """Return a record as a line of JSON, without its newline."""
    return orjson.dumps(asdict(record), option=orjson.OPT_NON_STR_KEYS)


def parse(line: bytes) -> Record:
    """Return a record from such a line. Raises ``ValueError`` or ``TypeError`` for anything else."""
    read: dict[str, Any] = orjson.loads(line)
    return Record(**{**read, "gaps": {int(number): count for number, count in read["gaps"].items()}})


def read(path: Path) -> Iterator[Record]:
    """Read the records of a run. Raises ``OSError``."""
    with path.open("rb") as lines:
        yield from (parse(line) for line in lines if line.strip())


def all_gaps(records: Iterable[Record]) -> Counter[int]:
    """Return the histogram of every time between tokens."""
    total: Counter[int] = Counter()
    for record in records:
        total.update(record.gaps)
    return total


def gap_percentile(gaps: Counter[int], share: float) -> float | None:
    """Return a percentile of the times between tokens in seconds, nearest rank; None: there are none."""
    rank = max(math.ceil(share * gaps.total()), 1)
    for number in sorted(gaps):
        rank -= gaps[number]
        if rank <= 0:
            return gap_s(number)
    return None
