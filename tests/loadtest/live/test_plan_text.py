"""The plan as it is printed: complete, explained, and the same plan."""

import pytest
import yaml

from loadtest.live import plan_text
from loadtest.live.plan import SHAPES, Plan
from tests.loadtest.live.test_plan import sections


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_printed_loads_as_the_same_plan(shape: type) -> None:
    """Of every shape."""
    kind = shape.model_fields["kind"].annotation.__args__[0]  # type: ignore[attr-defined]
    plan = Plan.model_validate({"shape": {"kind": kind}, "seed": 7})
    assert Plan.model_validate(yaml.safe_load(plan_text.text(plan))) == plan


def test_every_field_is_told_with_its_meaning() -> None:
    """Those of the other shapes too, as comments; the numbers of a distribution stand in one line."""
    words = " ".join(plan_text.text(Plan()).replace("#", " ").split())
    for section in sections(Plan):
        for name, field in section.model_fields.items():
            assert name in words, f"{section.__name__}.{name}"
            if section.__name__ != "Lengths":
                assert " ".join((field.description or "").replace("``", "`").split()) in words, name
