"""The plan as YAML with every default and what it means: what ``loadtest plan`` prints."""

import textwrap
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from loadtest.live.plan import SHAPES, Plan

_WIDTH = 100


def text(plan: Plan) -> str:
    """Return ``plan`` as YAML; it loads as the same plan."""
    lines = [*_section(plan, ""), "# The other shapes:"]
    for shape in SHAPES:
        if not isinstance(plan.shape, shape):
            told = _told(shape.__doc__)
            lines += ["#", *_comment(told, "# "), *(f"#   {line}" for line in _section(_example(shape), ""))]
    return "\n".join(lines) + "\n"


def _section(section: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        yield from _comment(_told(field.description), indent)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _section(value, indent + "  ")
        else:
            dumped = section.model_dump(mode="json", include={name})[name]
            flow = yaml.safe_dump(dumped, default_flow_style=True, sort_keys=False, width=1000)
            yield f"{indent}{name}: {flow.splitlines()[0]}"


def _comment(told: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(told, _WIDTH - len(indent))]


def _told(docstring: str | None) -> str:
    return " ".join((docstring or "").split()).replace("``", "`")


def _example(shape: type[BaseModel]) -> BaseModel:
    kind = shape.model_fields["kind"].annotation
    return shape(kind=kind.__args__[0])  # type: ignore[union-attr]
