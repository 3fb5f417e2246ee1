"""The plan: what may stand in it, and what its mistakes are called."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from loadtest.live import plan
from loadtest.live.plan import Plan, PlanError

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_given_is_a_plan() -> None:
    """The default plan loads, and is steady."""
    assert plan.load(None).shape.kind == "steady"


def test_a_value_is_changed_by_its_place() -> None:
    """``--set`` reaches into sections, whose other values stay."""
    changed = plan.load(None, ["shape.users=7", "efforts.high=0", "pace.kind=open"])
    assert changed.shape == plan.Steady(users=7)
    assert changed.efforts == {"low": 0.6, "medium": 0.3, "high": 0}
    assert changed.pace == plan.Pace(kind="open")


def test_another_kind_of_shape_begins_anew(tmp_path: Path) -> None:
    """The values of the file's shape do not get into one of another kind."""
    (tmp_path / "plan.yaml").write_text("shape: {kind: ramp, first: 2, last: 9}")
    changed = plan.load(tmp_path / "plan.yaml", ["shape.kind=steady", "shape.users=3"])
    assert changed.shape == plan.Steady(users=3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("shape.users=0", "shape.steady.users: Input should be greater than or equal to 1"),
        ("shape.user=3", "shape.steady.user: Extra inputs are not permitted"),
        ("efforts={low: 0}", "efforts: every share is 0"),
        ("users={chat: 0, responses: 0, tools: 0}", "users: Value error, every share is 0"),
        ("patience_s={low: 3}", "patience_s: high, medium missing"),
        ("prompt_tokens.low={median: 9, p95: 3}", "p95 (3) is below median (9)"),
        ("shape", "it must read place=value"),
    ],
)
def test_a_mistake_is_named_by_its_place(change: str, told: str) -> None:
    """Unknown keys are mistakes too."""
    with pytest.raises(PlanError) as error:
        plan.load(None, [change])
    assert told in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", None], ids=["list", "no YAML", "no file"])
def test_a_file_that_is_no_plan_is_named(tmp_path: Path, text: str | None) -> None:
    """The error names the file."""
    path = tmp_path / "plan.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PlanError, match=r"plan\.yaml"):
        plan.load(path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "loadtest" / "plans").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_repository_s_plans_load(path: Path) -> None:
    """Each is a plan as it stands."""
    plan.load(path)


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    """Return every section of a document."""
    found = {model}
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= sections(kind)
    return found


def test_every_field_of_the_plan_is_told() -> None:
    """Each has a sentence."""
    for section in sections(Plan):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
