"""What ``docs/contract.md`` promises of metrics, logs and headers, read from its tables."""

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return the text below a heading."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(text: str, first: str) -> list[list[str]]:
    """Return the rows of the one table in ``text`` whose first column is ``first``, as lists of cells."""
    (found,) = re.findall(rf"^\| {first} \|.*\n\|[-|]+\|\n((?:\|.*\n?)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found.splitlines()]


def words(cell: str) -> frozenset[str]:
    """Return the names that stand in backticks."""
    return frozenset(re.findall(r"`([^`]+)`", cell))


def name(cell: str) -> str:
    """Return the one name that stands in backticks."""
    (found,) = words(cell)
    return found


METRICS = {name(row[0]): (row[1], words(row[2])) for row in table(section("Metrics"), "metric")}
"""Type and labels of each metric."""
PROCESS = words(re.findall(r"^Of the process itself: (.*)$", section("Metrics"), re.MULTILINE)[0])
"""Metrics of the process, which Prometheus' client library has."""
OUTCOMES = frozenset(name(row[0]) for row in table(section("Outcomes"), "outcome"))
USAGE = frozenset(name(row[0]) for row in table(section("Logs"), "key"))
AUDIT = {
    act: frozenset(
        name(row[0]) for row in table(section("Logs"), "audit key") if act in words(row[1]) or row[1] == "all"
    )
    for act in ("request", "record.change")
}
"""Keys of an audit line of each act."""
HEADERS = frozenset(name(row[0]) for row in table(section("Client → gateway → client"), "header"))
_BESIDES = re.search(r"^Besides: (.*)$", section("Client → gateway → client"), re.MULTILINE)
COMMON_HEADERS = words(_BESIDES[1] if _BESIDES else "")
"""Headers that any server sends."""
MAX_SERIES = int(re.search(r"at most (\d+) series", section("Metrics"))[1])  # type: ignore[index]


def label_values(label: str, metric: str) -> frozenset[str]:
    """Return the values that ``label`` of ``metric`` may have, as far as the document names them."""
    if label == "outcome":
        return OUTCOMES
    (row,) = [
        row
        for row in table(section("Metrics"), "label")
        if row[0] == f"`{label}`" and row[1] in ("all", f"`{metric}`")
    ]
    return words(row[2])


LOG = words(re.findall(r"^\*\*`log`\*\*: (.*)$", section("Logs"), re.MULTILINE)[0])
"""Keys of a line that is neither usage nor audit."""
