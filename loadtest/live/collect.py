"""Where records go: to Locust's own statistics, to the run's files, and from workers to their master."""

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import gevent
import orjson

from loadtest.live import records
from loadtest.live.records import Record
from loadtest.live.watch import Sight

if TYPE_CHECKING:
    from locust.env import Environment

MESSAGE = "loadtest"
"""Name of the messages from a worker to its master."""
_SEND_EVERY_S = 1.0
_SAMPLE_EVERY_S = 2.0
_TICK_S = 0.02
_LAST_WAIT_S = 10.0
"""Longest that a master waits for what its workers have left to tell."""

Listener = Callable[[Record], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process of the load generator did in a stretch of time."""

    at_s: float
    """End of the stretch, in seconds since 1970."""
    worker: str
    users: int
    cpu: float
    """Share of one core; one process of Python cannot use more than 1."""
    cpu_s: float
    """CPU time since the process began to load."""
    chunks: int
    """Events with text since then."""
    late_ms: float
    """The longest that a timer was late: so wrong can a time in the records be."""


class Sink(Protocol):
    """Takes what one process measures."""

    def record(self, record: Record) -> None:
        """Take one record."""

    def sample(self, sample: Sample) -> None:
        """Take one sample."""


class Files:
    """A run's folder, and whoever else wants each record; the master has it, or the only process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._requests: IO[bytes] = (folder / "requests.jsonl").open("wb")
        self._samples: IO[bytes] = (folder / "generator.jsonl").open("wb")
        self._sights: IO[bytes] = (folder / "target.jsonl").open("wb")
        self.listeners: list[Listener] = []
        self.samples: list[Sample] = []

    def record(self, record: Record) -> None:
        """Write one record, and tell the listeners."""
        self._requests.write(records.dump(record) + b"\n")
        for listener in self.listeners:
            listener(record)

    def sample(self, sample: Sample) -> None:
        """Write one sample."""
        self._samples.write(orjson.dumps(asdict(sample)) + b"\n")
        self.samples.append(sample)

    def sight(self, sight: Sight) -> None:
        """Write what a process of the target told of itself."""
        self._sights.write(orjson.dumps(asdict(sight)) + b"\n")

    def close(self) -> None:
        """Write everything to disk."""
        self._sights.close()
        self._requests.close()
        self._samples.close()


class ToMaster:
    """A worker's sink: everything goes to the master, once a second."""

    def __init__(self, environment: "Environment") -> None:
        self._environment = environment
        self._records: list[bytes] = []
        self._samples: list[dict[str, Any]] = []

    def record(self, record: Record) -> None:
        """Keep one record for the next message."""
        self._records.append(records.dump(record))

    def sample(self, sample: Sample) -> None:
        """Keep one sample for the next message."""
        self._samples.append(asdict(sample))

    def run(self) -> None:
        """Send, for ever."""
        while True:
            gevent.sleep(_SEND_EVERY_S)
            self.send(last=False)

    def send(self, *, last: bool) -> None:
        """Send what has come since; ``last``: nothing will follow."""
        told = {"records": self._records, "samples": self._samples, "last": last}
        self._records, self._samples = [], []
        runner = self._environment.runner
        assert runner is not None
        runner.send_message(MESSAGE, told)


class FromWorkers:
    """A master's ear: what workers tell goes to the run's sink."""

    def __init__(self, environment: "Environment", sink: Sink) -> None:
        self._environment, self._sink = environment, sink
        self._done = 0

    def hear(self, msg: Any, **_: Any) -> None:
        """Take one message."""
        for line in msg.data["records"]:
            self._sink.record(records.parse(line))
        for told in msg.data["samples"]:
            self._sink.sample(Sample(**told))
        self._done += bool(msg.data["last"])

    def await_last(self) -> None:
        """Wait until every worker has told everything, or has had time enough."""
        deadline_s = time.monotonic() + _LAST_WAIT_S
        workers = getattr(self._environment.runner, "worker_count", 0)
        while self._done < workers and time.monotonic() < deadline_s:
            gevent.sleep(0.05)
        self._done = 0


class Meter:
    """Watches the load generator itself: its CPU, and how late its timers are."""

    def __init__(self, worker: str, users: Callable[[], int], sink: Sink) -> None:
        self._worker, self._users, self._sink = worker, users, sink
        self._begun_cpu_s = _cpu_s()
        self._chunks = 0
        self._since_s, self._since_cpu_s, self._late_s = time.perf_counter(), self._begun_cpu_s, 0.0

    def record(self, record: Record) -> None:
        """Count a record's chunks."""
        self._chunks += record.chunks

    def run(self) -> None:
        """Sample, for ever."""
        while True:
            while time.perf_counter() - self._since_s < _SAMPLE_EVERY_S:
                before_s = time.perf_counter()
                gevent.sleep(_TICK_S)
                self._late_s = max(self._late_s, time.perf_counter() - before_s - _TICK_S)
            self.tell()

    def tell(self) -> None:
        """Tell what the stretch so far was, and begin another."""
        elapsed_s, cpu_s = time.perf_counter() - self._since_s, _cpu_s()
        sample = Sample(
            at_s=time.time(),
            worker=self._worker,
            users=self._users(),
            cpu=(cpu_s - self._since_cpu_s) / max(elapsed_s, _TICK_S),
            cpu_s=cpu_s - self._begun_cpu_s,
            chunks=self._chunks,
            late_ms=self._late_s * 1000,
        )
        self._since_s, self._since_cpu_s, self._late_s = time.perf_counter(), cpu_s, 0.0
        self._sink.sample(sample)


def log(environment: "Environment", record: Record) -> None:
    """Tell Locust's own statistics what its request event cannot: these rows are no requests of their own."""
    if record.outcome == "unfinished":
        return
    name = f"{record.kind} {record.effort}"
    if record.ttft_s is not None:
        _row(environment, "TTFT ms", name, record.ttft_s * 1000)
    if count := sum(record.gaps.values()):
        _row(environment, "inter-token ms, mean", name, record.gap_sum_s / count * 1000)
        p99_s = records.gap_percentile(records.all_gaps([record]), 0.99)
        _row(environment, "inter-token ms, p99", name, (p99_s or 0.0) * 1000)
    if record.tokens_per_s is not None:
        _row(environment, "tokens/s", name, record.tokens_per_s)


def _row(environment: "Environment", kind: str, name: str, value: float) -> None:
    # not log_request: that would count each as one more request of the total
    environment.stats.get(name, kind).log(value, 0)  # type: ignore[arg-type]  # it takes a float everywhere


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
