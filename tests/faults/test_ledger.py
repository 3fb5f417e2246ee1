"""The comparison of the ledgers finds each way in which they can disagree."""

import dataclasses
from typing import Any

import pytest

from cluster.settings import SimulatedEngine
from tests.faults.client import Got, Question
from tests.faults.ledger import Audit, Limiter, Rules, audit
from tests.faults.stack import MODEL, SIM

ENGINE = SimulatedEngine.model_validate(SIM)
QUESTION = Question(7, MODEL, "low")
EXPECTED, PROMPT = QUESTION.expected(ENGINE)
TOTAL = PROMPT + len(EXPECTED.tokens)
STRICT = Rules()
BEFORE = Limiter(1000, frozenset())


def got(**changes: Any) -> Got:
    """Return what a client got whose answer is whole, with ``changes``."""
    whole = Got(
        QUESTION,
        "one",
        10.0,
        request_id="a",
        status=200,
        answer=EXPECTED.text("answer"),
        reasoning=EXPECTED.text("reasoning"),
        tokens=EXPECTED.count("answer") + EXPECTED.count("reasoning"),
        usage=(PROMPT, len(EXPECTED.tokens)),
        end="complete",
        end_s=12.0,
    )
    return dataclasses.replace(whole, **changes)


def line(**changes: Any) -> dict[str, Any]:
    """Return its usage line, with ``changes``."""
    return {
        "request_id": "a",
        "outcome": "completed",
        "status": 200,
        "attempts": 1,
        "settled": TOTAL,
    } | changes


def broken(**changes: Any) -> Got:
    """Return what a client got whose stream broke after five words, and was told."""
    said = "".join(token.text for token in EXPECTED.tokens if token.kind == "reasoning")[:20]
    part = {"answer": "", "reasoning": said, "tokens": 5, "usage": None}
    return got(**{**part, "end": "told", "code": "upstream_broken", **changes})


BROKEN_LINE = line(outcome="upstream_broken", status=502, settled=PROMPT + 8)
MAY_BREAK = Rules(told=frozenset({"upstream_broken"}))


def compared(
    gots: list[Got],
    lines: list[dict[str, Any]],
    *,
    spent: int | None = None,
    leases: frozenset[str] = frozenset(),
    orphans: frozenset[str] = frozenset(),
    rules: Rules = STRICT,
    recovered_s: float = 100.0,
) -> Audit:
    """Compare, with a limiter that agrees unless told otherwise."""
    taken = sum(one["settled"] for one in lines) if spent is None else spent
    after = Limiter(BEFORE.spent + taken, leases)
    return audit(gots, lines, BEFORE, after, rules, engine=ENGINE, orphans=orphans, recovered_s=recovered_s)


def test_ledgers_that_agree_have_no_findings() -> None:
    """A whole answer, its line, and what the limiter holds."""
    assert compared([got()], [line()]).findings == []


def test_a_broken_stream_may_be_told() -> None:
    """Where the fault may break streams; the tokens charged beyond those shown are noted."""
    made = compared([broken()], [BROKEN_LINE], rules=MAY_BREAK)
    assert made.findings == []
    assert made.billed_minus_sent == [8 - broken().tokens]
    assert made.ends == {"told upstream_broken": 1}


@pytest.mark.parametrize(
    ("what", "usage", "words"),
    [
        pytest.param(got(end="clean"), line(), "clean, status 200", id="a clean end of a broken stream"),
        pytest.param(got(end="hung"), line(), "hung", id="a hang"),
        pytest.param(got(end="cut"), line(), "cut after", id="a cut connection"),
        pytest.param(got(end="unreached", request_id=None), None, "unreached", id="nobody there"),
        pytest.param(got(answer=EXPECTED.text("answer") * 2), line(), "other words", id="text twice"),
        pytest.param(
            broken(reasoning="The The"), BROKEN_LINE, "or twice", id="a word twice before the break"
        ),
        pytest.param(got(usage=(PROMPT, 1)), line(), "usage", id="wrong usage"),
        pytest.param(got(disorder="events after the last"), line(), "form", id="wrong form"),
        pytest.param(got(), line(settled=TOTAL + 1), "charged", id="a wrong charge"),
        pytest.param(got(), line(attempts=3), "3 attempts", id="tried thrice"),
        pytest.param(got(), line(outcome="upstream_broken"), "the client says", id="two stories"),
        pytest.param(
            broken(code="internal_error"), line(outcome="internal"), "gateway itself", id="our fault"
        ),
        pytest.param(got(), None, "0 usage lines", id="no usage line"),
        pytest.param(
            broken(), line(outcome="upstream_broken", settled=PROMPT + 200), "charged", id="too much"
        ),
        pytest.param(
            got(end="refused", status=503, code="server_is_overloaded", tokens=0, answer="", reasoning=""),
            line(outcome="shed", status=503, settled=9),
            "charged 9 for a refusal",
            id="a refusal that costs",
        ),
    ],
)
def test_each_disagreement_is_found(what: Got, usage: dict[str, Any] | None, words: str) -> None:
    """Whatever else is found, this is among it."""
    found = compared([what], [] if usage is None else [usage]).findings
    assert any(words in finding for finding in found), found


def test_a_second_usage_line_is_found() -> None:
    """Settled twice, though the limiter agrees."""
    assert any("2 usage lines" in finding for finding in compared([got()], [line(), line()]).findings)


def test_a_line_of_nobody_is_found() -> None:
    """A request that no client sent."""
    found = compared([got()], [line(), line(request_id="b")]).findings
    assert any("no client knows" in finding for finding in found)


@pytest.mark.parametrize("spent", [TOTAL - 1, TOTAL + 1])
def test_a_limiter_that_counts_otherwise_is_found(spent: int) -> None:
    """More or less than what the gateways settled; less may be where its data was lost."""
    assert compared([got()], [line()], spent=spent).findings
    forgetful = compared([got()], [line()], spent=spent, rules=Rules(forgets=True)).findings
    assert bool(forgetful) == (spent > TOTAL)


def test_a_lease_that_nobody_owns_is_found() -> None:
    """What a killed gateway held is excused until its lease ends."""
    assert compared([got()], [line()], leases=frozenset({"x"})).findings
    assert not compared([got()], [line()], leases=frozenset({"x"}), orphans=frozenset({"x"})).findings


def test_a_failure_after_the_recovery_is_found() -> None:
    """What may break under the fault may not once all is up."""
    assert compared([broken(sent_s=101.0)], [BROKEN_LINE], rules=MAY_BREAK).findings
