"""The shapes: how many users there are at each moment. Pure, but for the knee's memory of its records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.core.effort import Effort
from loadtest.live import figures
from loadtest.live.knee import Level, Search
from loadtest.live.plan import Knee, Ramp, Shape, Spike, Steady, Step
from loadtest.live.records import Record
from loadtest.verdicts import Verdict

_PROLONGED = 3.0
"""How many times its length a level may last where requests are few."""


def timed(shape: Steady | Ramp | Spike | Step, at_s: float) -> int | None:
    """Return the users at a time after the start; None: the end."""
    match shape:
        case Steady():
            return shape.users if at_s < shape.seconds else None
        case Ramp():
            if at_s >= shape.seconds:
                return None
            return round(shape.first + (shape.last - shape.first) * at_s / shape.seconds)
        case Spike():
            begins_s, ends_s = shape.before_s, shape.before_s + shape.spike_s
            inner = shape.peak
        case Step():
            begins_s, ends_s = shape.before_s, shape.before_s + shape.overload_s
            inner = round(shape.users * shape.times)
    if at_s >= ends_s + shape.after_s:
        return None
    return inner if begins_s <= at_s < ends_s else shape.users


Judge = Callable[[dict[Effort, figures.Figures]], Sequence[Verdict]]


@dataclass(slots=True)
class _Stretch:
    """The level under way."""

    users: int
    begun_s: float


class KneeFinder:
    """Drives the search for the knee: gives the users of the moment, and judges each level at its end."""

    def __init__(self, knee: Knee, efforts: Sequence[Effort], judge: Judge) -> None:
        self._efforts, self._judge = efforts, judge
        self.search = Search(knee)
        self._stretch: _Stretch | None = None
        self._records: list[Record] = []

    def take(self, record: Record) -> None:
        """Take a record; it counts for the level in which it ended."""
        self._records.append(record)

    def users(self, now_s: float) -> int | None:
        """Return the users at a time, in seconds since 1970; None: the search has ended."""
        if self._stretch is not None and self._over(self._stretch, now_s):
            self.search = self.search.plus(self._level(self._stretch, now_s))
            self._stretch = None
        if self._stretch is None:
            wanted = self.search.next
            if wanted is None:
                return None
            self._stretch, self._records = _Stretch(wanted, now_s), []
        return self._stretch.users

    def _over(self, stretch: _Stretch, now_s: float) -> bool:
        knee = self.search.knee
        measured_s = now_s - stretch.begun_s - knee.settle_s
        if measured_s < knee.seconds:
            return False
        counted = self._counted(stretch, now_s)
        enough = all(sum(one.effort == each for one in counted) >= knee.least for each in self._efforts)
        return enough or measured_s >= knee.seconds * _PROLONGED

    def _counted(self, stretch: _Stretch, now_s: float) -> list[Record]:
        first_s = stretch.begun_s + self.search.knee.settle_s
        ended = (one for one in self._records if first_s <= one.ended_s <= now_s)
        return [one for one in ended if one.outcome != "unfinished"]

    def _level(self, stretch: _Stretch, now_s: float) -> Level:
        verdicts = self._judge(figures.by_effort(self._counted(stretch, now_s)))
        broken = tuple(f"{one.bar} ({one.found})" for one in verdicts if not one.held)
        first_s = stretch.begun_s + self.search.knee.settle_s
        return Level(stretch.users, not broken, broken, first_s, now_s)


def kind(shape: Shape) -> str:
    """Return a shape in one line."""
    told = {name: value for name, value in shape.model_dump().items() if name != "kind"}
    return f"{shape.kind}: " + ", ".join(f"{name} {value:g}" for name, value in told.items())
