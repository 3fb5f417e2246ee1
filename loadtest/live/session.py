"""One test in a Locust process: who measures what from its start to its stop, and the report at its end."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from locust.runners import MasterRunner, WorkerRunner

from loadtest.live import about, collect, report, slo
from loadtest.live.collect import Files, FromWorkers, Meter, Sink, ToMaster
from loadtest.live.metrics import Metrics
from loadtest.live.options import Options
from loadtest.live.plan import Knee
from loadtest.live.records import Record
from loadtest.live.results import Run
from loadtest.live.shapes import KneeFinder
from loadtest.live.watch import Sight, Watcher

if TYPE_CHECKING:
    from locust.env import Environment


_BROKEN = 2
"""Exit status of a test that could not be run or reported; Locust logs why."""


class Session:
    """Everything between one start and one stop, in the process that decides: the master, or the only one."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.metrics = Metrics()
        self._files = Files(folder)
        self._files.listeners.append(self.metrics.record)
        self.finder: KneeFinder | None = None
        plan, objectives = options.plan, options.objectives
        if isinstance(plan.shape, Knee):
            assert objectives is not None
            asked = [effort for effort, share in plan.efforts.items() if share]
            judged = objectives.only(asked)
            least = plan.shape.least
            self.finder = KneeFinder(plan.shape, asked, lambda found: slo.judge(found, judged, least=least))
            self._files.listeners.append(self.finder.take)
        self.started_s = time.time()
        self._sights: list[Sight] = []
        self.about = about.about(options.base_url, options.settings, (plan, objectives))

    def record(self, record: Record) -> None:
        """Take one record."""
        self._files.record(record)

    def sample(self, sample: collect.Sample) -> None:
        """Take one sample of the generator."""
        self._files.sample(sample)
        self.metrics.sample(sample)

    def sight(self, sight: Sight) -> None:
        """Take what a process of the target told of itself."""
        self._files.sight(sight)
        self._sights.append(sight)

    def finish(self) -> Run:
        """Close the files, judge, and write the report."""
        self._files.close()
        self.metrics.save(self.folder / "metrics.prom")
        run = Run(
            about=self.about,
            plan=self.options.plan,
            objectives=self.options.objectives,
            records=report.requests(self.folder),
            samples=self._files.samples,
            started_s=self.started_s,
            sights=self._sights,
        )
        if self.finder is not None:
            run = replace(run, levels=self.finder.search.levels, knee=self.finder.search.held)
        report.write(run, self.folder)
        return run


class Process:
    """This process's part in the test, over all its starts and stops."""

    def __init__(self, environment: "Environment", options: Options) -> None:
        self._environment, self._options = environment, options
        self.session: Session | None = None
        """None: no test runs here, or this is a worker."""
        self.last: Session | None = None
        """The session before."""
        self._runs = 0
        self.failed = False
        """Whether the last start failed: Locust only logs that, and would go on."""
        self._greenlets: list[Any] = []
        self._meter: Meter | None = None
        runner: Any = environment.runner
        is_master = isinstance(runner, MasterRunner)
        self._asks = not is_master
        self._name = str(getattr(runner, "client_id", "only"))
        self._to_master = ToMaster(environment) if isinstance(runner, WorkerRunner) else None
        self._from_workers = FromWorkers(environment, self) if is_master else None
        if self._from_workers is not None:
            runner.register_message(collect.MESSAGE, self._from_workers.hear)
        environment.events.test_start.add_listener(self._start)
        environment.events.test_stop.add_listener(self._stop)

    @property
    def decides(self) -> bool:
        """Whether this process keeps the results."""
        return self._to_master is None

    def took(self, record: Record) -> None:
        """Take what a user of this process has measured."""
        collect.log(self._environment, record)
        if self._meter is not None:
            self._meter.record(record)
        self._sink.record(record)

    def record(self, record: Record) -> None:
        """Take a record of a worker; one that comes too late is lost."""
        if self.session is not None:
            self.session.record(record)

    def sample(self, sample: collect.Sample) -> None:
        """Take a sample of a worker."""
        if self.session is not None:
            self.session.sample(sample)

    def metrics(self) -> bytes:
        """Return the metrics of the test that runs, or of the last one; empty before the first."""
        session = self.session or self.last
        return b"" if session is None else session.metrics.text()

    @property
    def _sink(self) -> Sink:
        return self._to_master or self

    def _start(self, **_: Any) -> None:
        self._environment.process_exit_code, self.failed = _BROKEN, True
        if self.decides:
            self._runs += 1
            folder = self._options.out
            self.session = Session(self._options, folder if self._runs == 1 else folder / str(self._runs))
            if self._options.watch:
                watcher = Watcher(self._options.watch, self.session.sight)
                self._greenlets.append(gevent.spawn(watcher.run))
        if self._asks:
            runner: Any = self._environment.runner
            self._meter = Meter(self._name, lambda: runner.user_count, self._sink)
            self._greenlets.append(gevent.spawn(self._meter.run))
        if self._to_master is not None:
            self._greenlets.append(gevent.spawn(self._to_master.run))
        self.failed = False

    def _stop(self, **_: Any) -> None:
        if self._meter is not None:
            self._meter.tell()
        gevent.killall(self._greenlets)
        self._greenlets, self._meter = [], None
        if self._to_master is not None:
            self._to_master.send(last=True)
            # a worker that has stopped would sleep as long again, deaf to its master; a start sets it anew
            self._environment.stop_timeout = 0.0
        if self._from_workers is not None:
            self._from_workers.await_last()
        if self.session is None:
            return
        run = self.session.finish()
        self.last, self.session = self.session, None
        # 0 only when every objective held; Locust itself would count any refusal as a failure
        self._environment.process_exit_code = 0 if run.held else 1
