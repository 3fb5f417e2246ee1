"""Three ledgers that must agree: what clients got, what gateways wrote down, what the limiter holds. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.core.accounting import Outcome
from cluster.settings import SimulatedEngine
from tests.faults.client import Got

FRAME_TOKENS = 10
"""Harmony's own tokens around an answer, which are charged and never shown."""
ABORTED_S = 2.0
"""Seconds of tokens by which the charge for an answer that did not end may differ from what was sent."""


@dataclass(frozen=True, slots=True)
class Limiter:
    """What the limits in Redis hold of the load's tenant."""

    spent: int
    """Tokens of the day, all efforts."""
    leases: frozenset[str]
    """Requests in flight, by id."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a fault may do to clients and ledgers."""

    told: frozenset[str] = frozenset()
    """Codes that requests under way may end with, once something of their answer was shown."""
    refused: frozenset[str] = frozenset()
    """Codes that requests may be refused with."""
    cuts: bool = False
    """Whether connections of clients may break, and gateways be out of reach."""
    forgets: bool = False
    """Whether the limiter may lose what was spent."""
    silent: bool = False
    """Whether usage lines may be lost."""


@dataclass(slots=True)
class Audit:
    """What became of the requests around one fault."""

    findings: list[str] = field(default_factory=list)
    """What should not be."""
    ends: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    """Requests without any answer: cut or hung."""
    billed_minus_sent: list[int] = field(default_factory=list)
    """Of answers that did not end, the tokens charged less those that were shown."""


def audit(
    gots: Sequence[Got],
    lines: Sequence[Mapping[str, Any]],
    before: Limiter,
    after: Limiter,
    rules: Rules,
    *,
    engine: SimulatedEngine,
    orphans: frozenset[str],
    recovered_s: float,
) -> Audit:
    """Compare the ledgers. ``orphans`` are requests whose gateway was killed."""
    made = Audit()
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_id.setdefault(line["request_id"], []).append(line)
    for got in gots:
        made.ends[got.end if got.code is None else f"{got.end} {got.code}"] += 1
        made.lost += got.end in ("cut", "hung")
        own = by_id.pop(got.request_id or "", [])
        for finding in (
            *_client(got, rules, engine, recovered_s),
            *_gateway(got, own, rules, engine, made),
        ):
            made.findings.append(f"request {got.question.number} ({got.request_id}): {finding}")
    nameless = sum(got.request_id is None and got.end != "unreached" for got in gots)
    if len(by_id) > nameless:
        made.findings.append(f"{len(by_id)} usage lines of requests that no client knows: {list(by_id)[:3]}")
    settled = sum(line["settled"] or 0 for line in lines)
    if rules.silent:  # then the clients' own ledger has to do
        settled = sum(sum(got.usage) for got in gots if got.usage is not None)
    made.findings += _limiter(before, after, settled, rules, orphans)
    return made


def _client(got: Got, rules: Rules, engine: SimulatedEngine, recovered_s: float) -> Iterable[str]:
    """Tell what the client alone can: whether it ended well, in the right form, with each word once."""
    expected, prompt = got.question.expected(engine)
    answer, reasoning = expected.text("answer"), expected.text("reasoning")
    if got.disorder:
        yield f"form: {got.disorder}"
    match got.end:
        case "complete":
            if (got.answer, got.reasoning) != (answer, reasoning):
                yield f"complete with other words: {got.reasoning!r} {got.answer!r}"
            if got.usage != (prompt, len(expected.tokens)):
                yield f"usage {got.usage} is not {(prompt, len(expected.tokens))}"
        case "hung" | "clean":
            yield f"{got.end}, status {got.status}, after {got.tokens} words"
        case "cut" | "unreached" if not rules.cuts:
            yield f"{got.end} after {got.tokens} words"
        case "told" if got.code not in rules.told:
            yield f"told {got.code} after {got.tokens} words"
        case "refused" if got.code not in rules.refused:
            yield f"refused with {got.status} {got.code}"
    if not (answer.startswith(got.answer) and reasoning.startswith(got.reasoning)):
        yield f"words that were not said, or twice: {got.reasoning!r} {got.answer!r}"
    if got.end not in ("complete", "left") and got.sent_s > recovered_s:
        yield f"{got.end} {got.code} although all was up again"


def _gateway(
    got: Got, own: Sequence[Mapping[str, Any]], rules: Rules, engine: SimulatedEngine, made: Audit
) -> Iterable[str]:
    """Tell what the gateway's usage line has against it: one line, the same end, the right charge."""
    if got.request_id is None:
        return
    if len(own) != 1:
        if own or not (rules.silent or (rules.cuts and got.end == "cut")):
            yield f"{len(own)} usage lines"
        return
    line = own[0]
    if line["attempts"] > 2:
        yield f"{line['attempts']} attempts"
    if line["outcome"] == Outcome.INTERNAL:
        yield "an error of the gateway itself"
    if not _agrees(got, line):
        theirs = f"{line['outcome']} {line['status']}"
        yield f"the client says {got.end} {got.status} {got.code}, the gateway {theirs}"
    yield from _charge(got, line["settled"] or 0, engine, made)


def _agrees(got: Got, line: Mapping[str, Any]) -> bool:
    """Whether client and gateway tell of the same end."""
    completed = bool(line["outcome"] == Outcome.COMPLETED)
    gone = line["outcome"] in (Outcome.CLIENT_GONE_WAITING, Outcome.CLIENT_GONE_STREAMING)
    match got.end:
        case "complete":
            return completed
        case "refused":
            return bool(not (completed or gone) and line["status"] == got.status)
        case "told":
            return not (completed or gone)
        case "left":  # at its last word it may have been complete
            return completed or gone
    return True


def _charge(got: Got, settled: int, engine: SimulatedEngine, made: Audit) -> Iterable[str]:
    expected, prompt = got.question.expected(engine)
    if got.end == "complete":
        if settled != prompt + len(expected.tokens):
            yield f"charged {settled} for {prompt + len(expected.tokens)} tokens"
        return
    if got.tokens == 0:
        if settled and got.end == "refused" and got.code != "deadline_exceeded":  # which costs what it took
            yield f"charged {settled} for a refusal"
        return
    over = settled - prompt - got.tokens
    made.billed_minus_sent.append(over)
    most = ABORTED_S * 1000 / engine.inter_token_ms
    if not -most - FRAME_TOKENS <= over <= most + FRAME_TOKENS:
        yield f"charged {settled} for a prompt of {prompt} and {got.tokens} words sent"


def _limiter(
    before: Limiter, after: Limiter, settled: int, rules: Rules, orphans: frozenset[str]
) -> Iterable[str]:
    if left := after.leases - orphans:
        yield f"{len(left)} requests still hold something of the limits: {sorted(left)[:3]}"
    spent = after.spent - before.spent
    held = bool(orphans & after.leases)
    if spent > settled and not held:
        yield f"the limiter counts {spent} tokens, the gateways {settled}"
    if spent < settled and not rules.forgets:
        yield f"the limiter counts {spent} tokens only, the gateways {settled}"
