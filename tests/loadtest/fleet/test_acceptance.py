"""How an acceptance run is judged."""

import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.cli import app
from cluster.core.effort import EFFORTS
from loadtest.bench.statistics import spread
from loadtest.fleet import acceptance, show
from loadtest.fleet.acceptance import Check
from loadtest.fleet.lab import Lab, simulate
from loadtest.fleet.measures import Group, Measures
from loadtest.fleet.routers import OURS
from loadtest.fleet.simulation import Setup

GROUP = Group(
    requests=1000,
    refused=0.0,
    lost=0.0,
    late=0,
    wait_p95_s=0.5,
    token_p95_ms=8.0,
    first_p95_s=1.0,
    end_p95_s=100.0,
    tokens_per_s=1000.0,
)


def measures(group: Group = GROUP) -> Measures:
    """Return a run in which each kind of request fared alike."""
    return Measures(dict.fromkeys(EFFORTS, group), dict.fromkeys("AB", group), 5000.0)


OURS_RUN = measures(replace(GROUP, token_p95_ms=6.0, tokens_per_s=1000.0))
PLAIN_RUN = measures(replace(GROUP, refused=0.5, wait_p95_s=10.0))


class FakeLab(Lab):
    """Knows what each setup comes to without simulating it."""

    def __init__(self, of: Callable[[Setup], Measures]) -> None:
        super().__init__()
        self._of = of

    def measure(self, setups: Iterable[Setup]) -> list[Measures]:
        """Return what was made up."""
        return [self._of(setup) for setup in setups]


def good(setup: Setup) -> Measures:
    """Return figures that hold every bar."""
    return OURS_RUN if setup.policy == OURS else PLAIN_RUN


def test_a_policy_that_does_all_holds_all() -> None:
    """Five bars, each with its checks."""
    checks = list(acceptance.check_all(FakeLab(good), 3))
    assert {check.bar for check in checks} == {1, 2, 3, 4, 5}
    assert [check for check in checks if not check.held] == []
    assert acceptance.last_line(checks) == f"{len(checks)} of {len(checks)} held"


@pytest.mark.parametrize(
    ("worse", "bar", "name"),
    [
        ({"wait_p95_s": 1.01}, 1, "low wait"),
        ({"refused": 0.03}, 1, "medium refused"),
        ({"tokens_per_s": 900.0}, 1, "tokens, to the best"),
        ({"late": 1}, 1, "after the deadline"),
        ({"token_p95_ms": 7.0}, 2, "between tokens"),
        ({"end_p95_s": 141.0}, 2, "high end"),
        ({"token_p95_ms": 9.0}, 2, "60/30/10"),
        ({"token_p95_ms": 9.0}, 2, "mix changes"),
        ({"token_p95_ms": 9.0}, 2, "2 replicas"),
        ({"end_p95_s": 131.0}, 3, "B floods"),
        ({"end_p95_s": 111.0}, 3, "within its share"),
        ({"token_p95_ms": 7.0}, 5, "between tokens"),
    ],
)
def test_each_bar_can_fail(worse: dict[str, float], bar: int, name: str) -> None:
    """A policy that is worse in one thing does not hold the check of that thing."""
    bad = measures(replace(OURS_RUN.by_effort["low"], **worse))  # type: ignore[arg-type]
    checks = acceptance.check_all(FakeLab(lambda setup: bad if setup.policy == OURS else PLAIN_RUN), 2)
    failed = [check for check in checks if not check.held]
    assert any(check.bar == bar and name in check.name for check in failed)


def test_a_gain_that_trouble_takes_fails_bar_4() -> None:
    """Here stale reports leave nothing of the pace."""

    def of(setup: Setup) -> Measures:
        return PLAIN_RUN if setup.report_s > 1 else good(setup)

    failed = [check for check in acceptance.check_all(FakeLab(of), 2) if not check.held]
    assert {check.bar for check in failed} == {4}
    assert all("2 s stale" in check.name for check in failed)


def test_the_table_tells_median_spread_and_verdict() -> None:
    """A reader sees what did not hold."""
    console = Console(width=160, record=True, file=io.StringIO())
    checks = [
        Check(1, "low wait p95, s", spread([0.5, 0.9, 2.0]), "at most", 1.0, "FIFO: 10.00"),
        Check(2, "pace", spread([0.9, 0.91]), "at most", 0.85),
    ]
    console.print(show.verdicts(checks))
    text = console.export_text()
    for word in ("0.900", "0.500 to 2.000", "at most 1", "FIFO: 10.00", "not held"):
        assert word in text
    assert acceptance.last_line(checks) == "1 of 2 held"


@pytest.mark.parametrize(("policy", "status"), [("good", 0), ("bad", 1)])
def test_the_exit_status_is_0_only_when_all_held(
    policy: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The last line says how many did; the table is kept, and a picture of it."""
    check = Check(1, "figure", spread([1.0]), "at most", 2.0 if policy == "good" else 0.5)
    monkeypatch.setattr(acceptance, "check_all", lambda lab, seeds: iter([check] * seeds))
    command = ["simulate", "acceptance", "--seeds", "2", "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == status
    last = "2 of 2 held" if status == 0 else "0 of 2 held"
    assert result.output.strip().splitlines()[-1] == last
    assert (tmp_path / "new" / "acceptance.txt").read_text().strip().splitlines()[-1] == last
    assert (tmp_path / "new" / "acceptance.png").read_bytes().startswith(b"\x89PNG")


def test_all_is_simulated_in_one_go_once_the_capacities_are_known() -> None:
    """So no process waits while another one has the last simulation of a bar."""

    class Counting(FakeLab):
        sizes: tuple[int, ...] = ()

        def measure(self, setups: Iterable[Setup]) -> list[Measures]:
            wanted = list(setups)
            new = [setup for setup in wanted if setup not in self.seen]
            self.sizes += (len(new),)
            self.seen.update(new)
            return super().measure(wanted)

        def __init__(self) -> None:
            super().__init__(good)
            self.seen: set[Setup] = set()

    lab = Counting()
    list(acceptance.check_all(lab, 3))
    largest = max(lab.sizes)
    after = lab.sizes[lab.sizes.index(largest) + 1 :]
    assert largest > 200
    assert set(after) == {0}


def test_the_lab_simulates_each_setup_once() -> None:
    """Two processes give what one would."""
    from tests.loadtest.fleet.test_simulation import SMALL  # noqa: PLC0415 - only here

    lines: list[str] = []
    with Lab(lines.append) as lab:
        first, second, other = lab.measure([SMALL, SMALL, replace(SMALL, policy="random")])
    assert first is second
    assert first == simulate(SMALL) != other
    assert lines[-1] == "2 of 2 simulations"
