"""The verdict on a served tiny model follows from its answers alone."""

import json

import pytest

from cluster.tinymodel import verify
from cluster.tinymodel.prompts import unseen_prompts
from cluster.tinymodel.verify import EFFORTS, Answer, Effort, score

LENGTHS: dict[Effort, int] = {"low": 15, "medium": 45, "high": 115}


def chat(effort: Effort, index: int, *, fault: str | None = None, reasoning: int | None = None) -> Answer:
    """Return a good answer that differs by `index`."""
    tokens = reasoning or LENGTHS[effort] + index % 5
    return Answer("chat", effort, f"answer {index}", tokens, fault)


def good(count: int = 100) -> list[Answer]:
    """Return `count` good chat answers at each effort."""
    return [chat(effort, i) for effort in EFFORTS for i in range(count)]


def test_good_answers_pass() -> None:
    """Strict, longer by effort and different: no failure, and the report is JSON."""
    report = score(good())
    assert report.passed
    assert report.distinct_answers == 100
    assert report.reasoning["medium"].mean == 47
    value = json.loads(json.dumps(report.as_dict()))
    assert value["rates"]["chat/low"] == {"asked": 100, "right": 100, "faults": [], "share": 1.0}
    assert value["passed"] is True


def test_one_fault_in_a_hundred_is_allowed_and_two_are_not() -> None:
    """The share is counted by effort, not over all."""
    faulty = [chat("high", i, fault="strict parser: no") for i in range(2)]
    assert score([*good(99), chat("high", 0, fault="strict parser: no")]).passed
    report = score([*good(98), *faulty])
    assert report.failures == ("chat/high: 98 of 100 right",)
    assert report.rates["chat/high"].faults == ("strict parser: no",) * 2


def test_reasoning_must_grow_clearly() -> None:
    """Ranges from p5 to p95 that meet are a failure."""
    answers = [
        chat(a.effort, i, reasoning=30 + i % 40) if a.effort != "low" else a for i, a in enumerate(good())
    ]
    assert score(answers).failures == ("reasoning at high effort is not clearly longer than at medium",)


def test_answers_must_differ() -> None:
    """One answer for all prompts is a failure."""
    answers = [Answer("chat", a.effort, "same", a.reasoning_tokens, None) for a in good()]
    assert score(answers).failures == ("only 1 distinct answers in 300",)


def test_other_tasks_are_judged_apart() -> None:
    """A failing tool call does not hide behind good chat answers."""
    report = score([*good(), Answer("tool_call", "low", "", None, "no answer")])
    assert report.failures == ("tool_call/low: 0 of 1 right",)


def test_without_reasoning_counts_lengths_are_left_out() -> None:
    """A server that hides the count is not failed for it."""
    report = score(
        [Answer("chat", effort, f"{effort} {i}", None, None) for effort in EFFORTS for i in range(60)]
    )
    assert report.reasoning == {}
    assert report.passed


def test_prompts_are_many_and_repeatable() -> None:
    """Three hundred prompts, nearly all different, the same for the same seed."""
    prompts = unseen_prompts(300)
    assert len(set(prompts)) > 200
    assert prompts == unseen_prompts(300)
    assert prompts != unseen_prompts(300, seed=2)


@pytest.mark.parametrize(
    ("content", "fault"),
    [('{"a": 1}', None), ('{"b": 1}', "wrong keys"), ("[1]", "wrong keys"), ("{", "not JSON")],
)
def test_objects_are_judged_by_their_keys(content: str, fault: str | None) -> None:
    """An answer must be an object with exactly the schema's properties."""
    found = verify._object_fault(content, {"a": {"type": "integer"}})
    assert (found is None) if fault is None else (found is not None and found.startswith(fault))
