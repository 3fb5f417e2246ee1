"""Facts about the regular expressions in clients' schemas."""

import pytest

from cluster.core.patterns import MAX_PATTERN, MAX_REPEAT, MAX_UNROLLED, check_pattern, unrolled


@pytest.mark.parametrize(("pattern", "count"), [
    ("", 0), ("abc", 3), ("^a*b+c?$", 3), ("a{3}", 3), ("a{2,5}b", 6), ("a{2,}", 2), ("a{0}", 1),
    ("(ab){10}", 20), ("((a{10}b){10}c){10}", 1110), ("[a-z]{20}", 20), ("[]a]{4}", 4), ("[^]{9}]{4}", 4),
    (r"\({3}", 3), (r"[\]{9}]", 1), ("a|bc", 3), ("{x", 2), (")a", 2), ("(a", 1),
])  # fmt: skip
def test_repetitions_are_written_out(pattern: str, count: int) -> None:
    """Each character and class counts as often as it is repeated at most; classes and escapes are one."""
    assert unrolled(pattern) == count


@pytest.mark.parametrize("pattern", [
    "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "^([a-z]{1,63}\\.){1,10}[a-z]{2,24}$", "^(a+)+$",
    "a" * MAX_PATTERN, f"a{{{MAX_REPEAT}}}", "(a{1,100}){1,100}", r"(?<year>\d{4})",
])  # fmt: skip
def test_patterns_of_real_schemas_pass(pattern: str) -> None:
    """Ids, names and dates, and loops without a bound, which cost a grammar nothing."""
    check_pattern(pattern)


@pytest.mark.parametrize(("pattern", "reason"), [
    ("a" * (MAX_PATTERN + 1), "at most 512 characters"), ("a{1,1001}", "more than 1000 times"),
    ("(a{1,100}){1,101}", f"longer than {MAX_UNROLLED}"), ("((a{100}){100}){100}", "longer than"),
    ("(" * 9 + "a" + "{9})" * 9, "longer than"), ("(", "not a regular"), ("[", "not a regular"),
    ("*a", "not a regular"), (r"\1", "not a regular"), ("a{5,2}", "not a regular"),
    ("a{99999999999999999999}", "more than 1000 times"),
])  # fmt: skip
def test_bombs_are_refused(pattern: str, reason: str) -> None:
    """A short pattern that stands for a long one, and what is no pattern at all."""
    with pytest.raises(ValueError, match=reason):
        check_pattern(pattern)
