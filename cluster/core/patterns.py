"""Regular expressions in clients' schemas: sound, and no longer than a grammar compiler bears once unrolled.

A grammar repeats ``a{1,1000}`` a thousand times, and a repeated group with all that is in it, so a pattern of
forty characters can stand for millions. (Nested ``*`` and ``+`` are harmless: a grammar does not backtrack.)
"""

import re

MAX_PATTERN = 512
"""Longest pattern, in characters."""
MAX_REPEAT = 1_000
"""Largest repetition."""
MAX_UNROLLED = 10_000
"""Most characters and classes of a pattern, each counted as often as it is repeated."""

_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
"""ECMAScript's named group, which Python spells with a P."""
_NUMBERS = re.compile(r"[{,](\d+)(?=,?\d*\})")
_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,(\d*))?\}|.", re.DOTALL)


def check_pattern(pattern: str) -> None:
    """Check a regular expression. Raises `ValueError`, which says what it must be."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"must have at most {MAX_PATTERN} characters")
    if any(int(number) > MAX_REPEAT for number in _NUMBERS.findall(pattern)):
        raise ValueError(f"repeats more than {MAX_REPEAT} times")
    if unrolled(pattern) > MAX_UNROLLED:
        raise ValueError(f"is longer than {MAX_UNROLLED} characters once its repetitions are written out")
    try:
        re.compile(_NAMED_GROUP.sub("(?P<", pattern))
    except (re.error, OverflowError, RecursionError):
        raise ValueError("is not a regular expression") from None


def unrolled(pattern: str) -> int:
    """Count the characters and classes of a pattern, each as often as it is repeated at most."""
    total = last = 0
    outer: list[int] = []
    for atom in _ATOM.finditer(pattern):
        if atom[1] is not None:
            times = max(int(atom[1]), int(atom[2] or 1))
            total += last * (times - 1)
            last *= max(times, 1)
        elif atom[0] == "(":
            outer.append(total)
            total = last = 0
        elif atom[0] == ")" and outer:
            total, last = outer.pop() + total, total
        elif atom[0] not in "*+?|^$":
            total += 1
            last = 1
    return total
