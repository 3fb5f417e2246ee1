"""Facts about what answers are learned to cost."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core import cost
from cluster.core.cost import HALF_LIFE, CostModel, Expected, SnapshotError
from cluster.core.effort import EFFORTS, Effort
from cluster.core.lengths import MAX_TOKENS

MODEL = "gpt-oss-120b"
PRIORS: dict[tuple[str, Effort], float] = {
    (MODEL, "low"): 400, (MODEL, "medium"): 1500, (MODEL, "high"): 8000, ("gpt-oss-20b", "low"): 300,
}  # fmt: skip

answers = st.tuples(
    st.sampled_from(EFFORTS),
    st.sampled_from(["acme", "lab", "zoo"]),
    st.integers(-MAX_TOKENS, 2 * MAX_TOKENS),
    st.integers(-MAX_TOKENS, 2 * MAX_TOKENS),
    st.booleans(),
)
histories = st.lists(answers, max_size=40)


def lengths(mean: float, *, seed: int, sigma: float = 1.0) -> Iterator[int]:
    """Yield log-normal lengths of that mean."""
    rng = random.Random(seed)
    middle = math.log(mean) - sigma**2 / 2
    while True:
        yield max(1, round(rng.lognormvariate(middle, sigma)))


def teach(
    model: CostModel, drawn: Iterator[int], number: int, *, tenant: str = "acme", limit: int = MAX_TOKENS
) -> None:
    """Let a tenant's next answers at low effort be seen, a fifth of each reasoning, up to a limit."""
    for _ in range(number):
        length = next(drawn)
        output = min(length, limit)
        model.observe(
            MODEL, "low", tenant, reasoning=output // 5, answer=output - output // 5, cut=length >= limit
        )


def expected(model: CostModel, tenant: str = "acme") -> Expected:
    """Return a tenant's estimate at low effort."""
    return model.estimate(MODEL, "low", tenant)


def taught(history: list[Any]) -> CostModel:
    """Return a model that has seen a history."""
    model = CostModel(PRIORS)
    for effort, tenant, reasoning, answer, cut in history:
        model.observe(MODEL, effort, tenant, reasoning=reasoning, answer=answer, cut=cut)
    return model


def test_before_any_answer_the_prior_holds() -> None:
    """To the token, for every tenant; of its tokens half are taken for reasoning."""
    for (name, effort), mean in PRIORS.items():
        found = CostModel(PRIORS).estimate(name, effort, "anyone")
        assert (found.output, found.reasoning) == (mean, mean / 2)
        assert 2 * mean < found.p95 < 4 * mean


@pytest.mark.parametrize("factor", [3, 1 / 3], ids=["too high", "too low"])
@pytest.mark.parametrize(("sigma", "share"), [(0.5, 1.0), (1.0, 0.99), (1.5, 0.9)])
def test_a_prior_wrong_by_three_is_halved_within_200_answers(
    factor: float, sigma: float, share: float
) -> None:
    """Its error, in tokens, with all of 200 seeds; where lengths spread far, with all but a few."""
    halved = 0
    for seed in range(200):
        model = CostModel({(MODEL, "low"): 400 * factor})
        teach(model, lengths(400, seed=seed, sigma=sigma), 200)
        halved += abs(expected(model).output - 400) <= abs(400 * factor - 400) / 2
    assert halved / 200 >= share


@pytest.mark.parametrize("factor", [3, 1 / 3], ids=["longer", "shorter"])
def test_a_change_is_followed(factor: float) -> None:
    """After a long history, an estimate that is wrong by 3 now is half mended by a half-life of answers."""
    errors = []
    for seed in range(40):
        model = CostModel(PRIORS)
        teach(model, lengths(400, seed=seed), 1000)
        teach(model, lengths(400 * factor, seed=seed + 1000), HALF_LIFE)
        errors.append((expected(model).output - 400 * factor) / (400 - 400 * factor))
    assert sum(errors) / len(errors) == pytest.approx(0.5, abs=0.06)


def test_the_percentile_covers_what_it_says() -> None:
    """Of later answers, 19 in 20 stay within it, to within 2 % over 40 seeds."""
    covered = []
    for seed in range(40):
        drawn, model = lengths(1500, seed=seed), CostModel(PRIORS)
        teach(model, drawn, 600)
        covered.append(sum(next(drawn) <= expected(model).p95 for _ in range(500)) / 500)
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.02)
    assert min(covered) > 0.88


def test_reasoning_and_answer_are_learned_apart() -> None:
    """Each has its mean."""
    model = CostModel(PRIORS)
    teach(model, lengths(400, seed=1, sigma=0.2), 500)
    found = expected(model)
    assert found.reasoning == pytest.approx(80, rel=0.1)
    assert found.answer == pytest.approx(320, rel=0.1)


def test_truncated_answers_do_not_pull_an_estimate_down() -> None:
    """A tenant whose every answer is cut at 50 tokens is not taken for one that says little."""
    model = CostModel(PRIORS)
    teach(model, lengths(400, seed=1), 2000, limit=50)
    assert expected(model).output == pytest.approx(400, rel=0.05)
    naive = CostModel(PRIORS)
    for _ in range(2000):
        naive.observe(MODEL, "low", "acme", reasoning=0, answer=50, cut=False)
    assert expected(naive).output < 100


@given(histories, answers)
def test_a_cut_answer_is_never_worth_less_than_a_whole_one(history: list[Any], last: Any) -> None:
    """Of two that look alike, the one that would have gone on promises at least as much."""
    effort, tenant = last[:2]
    whole, cut = (taught([*history, (*last[:4], cut)]) for cut in (False, True))
    low, high = (model.estimate(MODEL, effort, tenant) for model in (whole, cut))
    assert high.output >= low.output * (1 - 1e-9)
    assert high.p95 >= low.p95 * (1 - 1e-9)


@given(histories, st.lists(st.integers(0, MAX_TOKENS), max_size=8))
def test_what_was_counted_on_the_way_is_not_counted_again(history: list[Any], seen: list[int]) -> None:
    """An answer that is looked at while it runs teaches, once it has ended, what it would have at once."""
    watched, whole, counted = taught(history), taught(history), 0
    for output in sorted(seen):
        watched.progress(MODEL, "low", "acme", counted=counted, output=output)
        counted = output
    for model, told in ((watched, counted), (whole, 0)):
        model.observe(MODEL, "low", "acme", reasoning=9, answer=max([9, *seen]), cut=False, counted=told)
        teach(model, lengths(400, seed=1), 50)  # so that both estimates are made anew
    assert expected(watched) == pytest.approx(expected(whole), rel=1e-6)


@given(histories, st.integers(0, MAX_TOKENS), st.integers(0, MAX_TOKENS))
def test_an_answer_that_runs_never_lowers_an_estimate(history: list[Any], counted: int, output: int) -> None:
    """That it goes on says nothing of an end."""
    before, after = taught(history), taught(history)
    before.progress(MODEL, "low", "acme", counted=0, output=2)  # so that both estimates are made anew
    after.progress(MODEL, "low", "acme", counted=0, output=2)
    after.progress(MODEL, "low", "acme", counted=counted, output=output)
    assert expected(after).output >= expected(before).output * (1 - 1e-6)
    assert expected(after).p95 >= expected(before).p95 * (1 - 1e-6)


def cold_start(seed: int, *, sweep_s: float | None) -> list[float]:
    """Return the estimate over the truth, every 2 s of the first five minutes after a start.

    Ten requests a second are answered by 8,000 tokens on average, as the prior says, at 10 ms each.
    """
    rng, drawn = random.Random(seed), lengths(8000, seed=seed)
    model = CostModel({(MODEL, "high"): 8000})
    told, running, now_s, next_s = [], list[list[float]](), 0.0, 0.0
    while now_s < 300:
        now_s += 0.5
        while next_s < now_s:
            running.append([next_s, min(next(drawn), MAX_TOKENS), 0])
            next_s += rng.expovariate(10)
        sweeps = sweep_s is not None and now_s % sweep_s == 0
        for one in running:
            came = min(int((now_s - one[0]) * 100), int(one[1]))
            if came == one[1]:
                model.observe(MODEL, "high", "acme", reasoning=0, answer=came, cut=False, counted=int(one[2]))
            elif sweeps:
                model.progress(MODEL, "high", "acme", counted=int(one[2]), output=came)
                one[2] = came
        running = [one for one in running if (now_s - one[0]) * 100 < one[1]]
        if now_s % 2 == 0:
            told.append(model.estimate(MODEL, "high", "acme").output / 8000)
    return told


@pytest.mark.parametrize("seed", range(3))
def test_after_a_start_the_short_answers_do_not_mislead(seed: int) -> None:
    """They end first. By these alone an estimate falls below a quarter; with those that run it stays near."""
    with_running = cold_start(seed, sweep_s=2)
    assert 0.7 < min(with_running) <= max(with_running) < 1.3
    assert min(cold_start(seed, sweep_s=None)) < 0.25


@given(histories)
def test_estimates_are_possible_lengths(history: list[Any]) -> None:
    """Whatever engines tell."""
    model = taught(history)
    for effort in EFFORTS:
        for tenant in ("acme", "lab", "zoo", "new"):
            found = model.estimate(MODEL, effort, tenant)
            assert found.reasoning >= 0
            assert found.answer >= 0
            assert 0 < found.output <= MAX_TOKENS * 1.001
            assert 0 < found.p95 <= MAX_TOKENS


def test_a_new_tenant_starts_as_all_tenants_are() -> None:
    """What others take is a better guess than the settings'; other efforts and models learn nothing of it."""
    model = CostModel(PRIORS)
    teach(model, lengths(4000, seed=1), 500, tenant="acme")
    assert expected(model, "new").output == pytest.approx(4000, rel=0.25)
    assert model.estimate(MODEL, "medium", "acme").output == 1500
    assert model.estimate("gpt-oss-20b", "low", "acme").output == 300


def test_a_tenants_own_answers_outvote_all_others() -> None:
    """Soon, and without a jump: the first of them moves little."""
    model = CostModel(PRIORS)
    teach(model, lengths(4000, seed=1), 500, tenant="acme")
    before = expected(model, "short").output
    teach(model, lengths(100, seed=2), 1, tenant="short")
    assert expected(model, "short").output > 0.8 * before
    teach(model, lengths(100, seed=3), 199, tenant="short")
    assert expected(model, "short").output < 0.1 * before
    assert expected(model, "acme").output == pytest.approx(before, rel=0.25)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant that was taught longest ago is forgotten, and is then as a new one."""
    monkeypatch.setattr(cost, "MAX_LEARNED", 3)
    model = CostModel(PRIORS)
    for tenant in ("a", "b", "c", "a", "d"):
        teach(model, lengths(100, seed=1), 50, tenant=tenant)
    kept = [entry["tenant"] for entry in model.snapshot()["learned"] if entry["tenant"]]
    assert kept == ["c", "a", "d"]
    assert expected(model, "b") == expected(model, "never seen")


def test_an_endless_history_stays_finite() -> None:
    """Weights are scaled down in time, also where nobody asks: unscaled, 250,000 answers overflow a float."""
    model = CostModel(PRIORS)
    for count in range(250_000):
        model.observe(MODEL, "low", "acme", reasoning=0, answer=300 if count % 2 else 500, cut=False)
    assert expected(model).output == pytest.approx(400, rel=0.1)


def test_an_answer_without_a_token_teaches_nothing() -> None:
    """Nothing can be said of one that never began."""
    model = CostModel(PRIORS)
    model.observe(MODEL, "low", "acme", reasoning=0, answer=0, cut=True)
    assert model.snapshot() == CostModel(PRIORS).snapshot()


def test_what_has_no_prior_is_an_error() -> None:
    """A typing error must not learn beside the truth."""
    with pytest.raises(KeyError):
        CostModel(PRIORS).estimate("gpt-5", "low", "acme")
    with pytest.raises(KeyError):
        CostModel(PRIORS).observe("gpt-5", "low", "acme", reasoning=1, answer=1, cut=False)


@given(histories)
def test_a_snapshot_restores_what_was_learned(history: list[Any]) -> None:
    """Through JSON; the estimates are the same but for rounding, and so is a second snapshot."""
    model, restored = taught(history), CostModel(PRIORS)
    snapshot = json.loads(json.dumps(model.snapshot()))
    restored.restore(snapshot)
    assert restored.snapshot() == snapshot
    for effort in EFFORTS:
        for tenant in ("acme", "lab", "new"):
            before, after = (each.estimate(MODEL, effort, tenant) for each in (model, restored))
            assert after == pytest.approx(
                before, rel=0.15
            )  # made anew, where `model` waits for an eighth more
    teach(model, lengths(400, seed=1), 50)
    teach(restored, lengths(400, seed=1), 50)
    assert expected(restored) == pytest.approx(expected(model), rel=0.15)


def test_a_snapshot_outlives_its_models() -> None:
    """What has no prior any more is left out, and what has none yet starts with its prior."""
    model = CostModel(PRIORS)
    teach(model, lengths(4000, seed=1), 100)
    other = CostModel({("gpt-oss-20b", "low"): 300, ("new", "high"): 9})
    other.restore(model.snapshot())
    assert other.estimate("new", "high", "acme").output == 9
    assert {entry["model"] for entry in other.snapshot()["learned"]} == {"gpt-oss-20b", "new"}


def edited(edit: Callable[[dict[str, Any]], Any]) -> Any:
    """Return a snapshot after an edit of its last entry, a tenant's."""
    model = CostModel(PRIORS)
    teach(model, lengths(400, seed=1), 5)
    snapshot = copy.deepcopy(model.snapshot())
    edit(snapshot["learned"][-1])
    return snapshot


def changed(**changes: Any) -> Any:
    """Return a snapshot whose last entry has other values."""
    return edited(lambda entry: entry.update(changes))


GOOD = edited(lambda entry: None)


@pytest.mark.parametrize(
    ("snapshot", "told"),
    [
        (None, "object with `version`"),
        ([], "object with `version`"),
        ({}, "object with `version`"),
        (GOOD | {"more": 1}, "nothing else"),
        (GOOD | {"version": 1}, "version 2"),
        (GOOD | {"version": "2"}, "version 2"),
        (GOOD | {"learned": {}}, "must be a list"),
        (GOOD | {"learned": [None]}, r"learned\[0\]: an entry"),
        (GOOD | {"learned": [{}] * 10_000}, "at most 8192"),
        (GOOD | {"learned": GOOD["learned"] * 2}, "of the same kind"),
        (edited(lambda entry: entry.pop("passed")), "an entry is an object"),
        (changed(more=1), "an entry is an object"),
        (changed(model=5), "names must be"),
        (changed(model=""), "names must be"),
        (changed(tenant="x" * 257), "names must be"),
        (changed(tenant=["acme"]), "names must be"),
        (changed(effort="huge"), "`effort` must be one of low, medium, high"),
        (changed(effort=[]), "`effort` must be"),
        (changed(ended="[[1, 1]]"), "lists of at most 69"),
        (changed(ended=[[1, 1]] * 70), "lists of at most 69"),
        (changed(ended=[1]), "pairs"),
        (changed(ended=[[1, 2, 3]]), "pairs"),
        (changed(ended=[[69, 1]]), "whole numbers below 69"),
        (changed(ended=[[-1, 1]]), "whole numbers below 69"),
        (changed(ended=[[1.5, 1]]), "whole numbers below 69"),
        (changed(ended=[[True, 1]]), "whole numbers below 69"),
        (changed(ended=[[10**400, 1]]), "whole numbers below 69"),
        (changed(ended=[[1, -1]]), "from 0 to"),
        (changed(ended=[[1, math.nan]]), "from 0 to"),
        (changed(passed=[[1, math.inf]]), "finite"),
        (changed(passed=[[1, 10**400]]), "finite"),
        (changed(passed=[[1, True]]), "from 0 to"),
        (changed(passed=[[1, "1"]]), "from 0 to"),
        (changed(ended=[[1, 300]]), "weigh more than 289"),
        (changed(passed=[[1, 20_000]]), "16384 more"),
        (changed(output=1e12), "from 0 to"),
        (changed(reasoning=1e6), "from 0 to"),
        (changed(output=math.nan), "from 0 to"),
    ],
)  # fmt: skip
def test_a_wrong_snapshot_is_an_error_and_changes_nothing(snapshot: Any, told: str) -> None:
    """Each says what is wrong, and where."""
    model = CostModel(PRIORS)
    teach(model, lengths(100, seed=1), 50)
    before = model.snapshot()
    with pytest.raises(SnapshotError, match=told):
        model.restore(snapshot)
    assert model.snapshot() == before


names = st.sampled_from([*GOOD, *GOOD["learned"][-1]])
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
    max_leaves=30,
)


@given(values)
def test_no_value_breaks_restore(value: Any) -> None:
    """Whatever JSON can hold is restored or refused."""
    for snapshot in (value, GOOD | {"learned": value}, GOOD | {"learned": [value]}, changed(ended=value)):
        try:
            CostModel(PRIORS).restore(snapshot)
        except SnapshotError as error:
            assert str(error)
