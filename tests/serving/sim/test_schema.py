"""The value made for a schema is one that the schema's own model accepts."""

from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from cluster.serving.sim.schema import example


class Colour(Enum):
    """An enum."""

    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """A nested object."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=30)]
    code: Annotated[str, Field(max_length=2)]


class Node(BaseModel):
    """A recursive object."""

    children: list["Node"]
    parent: "Node | None"


class Everything(BaseModel):
    """One field of each kind."""

    model_config = ConfigDict(extra="forbid")
    text: str
    count: Annotated[int, Field(ge=3, le=9)]
    ratio: Annotated[float, Field(gt=0, lt=1)]
    low: Annotated[int, Field(le=-4)]
    flag: bool
    nothing: None
    colour: Colour
    fixed: Literal["only"]
    inner: Inner
    many: Annotated[list[Inner], Field(min_length=2)]
    either: int | str
    optional: int | None = None
    table: dict[str, int]


@pytest.mark.parametrize("model", [Everything, Node, Inner], ids=lambda model: model.__name__)
def test_the_value_satisfies_the_schema(model: type[BaseModel]) -> None:
    """Pydantic accepts what is made from the schema that it wrote."""
    model.model_validate(example(model.model_json_schema(), "otter"))


def test_strings_repeat_the_word() -> None:
    """A plain string is the word given."""
    assert example({"type": "object", "properties": {"a": {"type": "string"}}}, "otter") == {"a": "otter"}


@pytest.mark.parametrize("schema", [{}, {"type": ["string", "null"]}, {"$ref": "#/$defs/absent"}], ids=str)
def test_a_vague_schema_gets_the_word(schema: dict[str, object]) -> None:
    """Where nothing is demanded, the word stands."""
    assert example(schema, "otter") == "otter"
