"""The same figures for Prometheus: at an endpoint while the test runs, in a file after it."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loadtest.live.collect import Sample
from loadtest.live.records import Record, gap_s

_TIMES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600)
_GAPS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
_LABELS = ("kind", "effort")


class Metrics:
    """One test's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "loadtest_requests", "Requests that ended", (*_LABELS, "outcome"), registry=self.registry
        )
        self._tokens = Counter(
            "loadtest_output_tokens", "Output tokens of whole answers", _LABELS, registry=self.registry
        )
        self._ttft = self._histogram("loadtest_time_to_first_token_seconds", "Sent to first token", _TIMES)
        self._answer = self._histogram("loadtest_time_to_first_answer_seconds", "Sent to answer", _TIMES)
        self._e2e = self._histogram("loadtest_e2e_seconds", "Sent to the end of a whole answer", _TIMES)
        self._gaps = self._histogram("loadtest_inter_token_seconds", "Between two tokens", _GAPS)
        self._users = Gauge("loadtest_users", "Users", ("worker",), registry=self.registry)
        self._cpu = Gauge(
            "loadtest_generator_cpu_ratio", "Share of a core", ("worker",), registry=self.registry
        )
        self._late = Gauge(
            "loadtest_generator_late_seconds", "Timers' lateness", ("worker",), registry=self.registry
        )

    def record(self, record: Record) -> None:
        """Take one record."""
        labels = (record.kind, record.effort)
        self._requests.labels(*labels, record.outcome).inc()
        if record.ttft_s is not None:
            self._ttft.labels(*labels).observe(record.ttft_s)
        if record.answer_s is not None:
            self._answer.labels(*labels).observe(record.answer_s)
        if record.good:
            self._e2e.labels(*labels).observe(record.e2e_s)
            self._tokens.labels(*labels).inc(record.output_tokens)
        for number, count in record.gaps.items():
            for _ in range(count):  # a histogram takes one value at a time
                self._gaps.labels(*labels).observe(gap_s(number))

    def sample(self, sample: Sample) -> None:
        """Take one sample of the generator."""
        self._users.labels(sample.worker).set(sample.users)
        self._cpu.labels(sample.worker).set(sample.cpu)
        self._late.labels(sample.worker).set(sample.late_ms / 1000)

    def text(self) -> bytes:
        """Return Prometheus's text format."""
        return generate_latest(self.registry)

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        part = path.with_suffix(".part")
        part.write_bytes(self.text())
        part.replace(path)

    def _histogram(self, name: str, told: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, told, _LABELS, buckets=buckets, registry=self.registry)
