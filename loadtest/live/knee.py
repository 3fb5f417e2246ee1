"""The search for the knee: the highest load at which every objective holds. Pure."""

from dataclasses import dataclass

from loadtest.live.plan import Knee


@dataclass(frozen=True, slots=True)
class Level:
    """One load that was tried."""

    users: int
    held: bool
    broken: tuple[str, ...]
    """What did not hold."""
    first_s: float
    """Its measured stretch, in seconds since 1970."""
    last_s: float


@dataclass(frozen=True, slots=True)
class Search:
    """What is known so far."""

    knee: Knee
    levels: tuple[Level, ...] = ()

    @property
    def held(self) -> int:
        """Users of the highest load that held; 0: none did."""
        return max((one.users for one in self.levels if one.held and one.users < self._broke), default=0)

    @property
    def _broke(self) -> int:
        return min((one.users for one in self.levels if not one.held), default=self.knee.most + 1)

    @property
    def broke(self) -> int | None:
        """Users of the lowest load that broke; None: none did."""
        return self._broke if self._broke <= self.knee.most else None

    @property
    def next(self) -> int | None:
        """Users of the next load to try; None: the search has ended."""
        if not self.levels:
            return min(self.knee.first, self.knee.most)
        if self.broke is None:
            if self.held >= self.knee.most:
                return None
            return min(max(self.held + 1, round(self.held * self.knee.factor)), self.knee.most)
        if self.broke - self.held <= max(1, self.held * self.knee.within):
            return None
        return (self.held + self.broke) // 2

    def plus(self, level: Level) -> "Search":
        """Return the search with one more level."""
        return Search(self.knee, (*self.levels, level))
