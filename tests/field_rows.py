"""The field tables as rows of ``docs/fields.md``, which ``python -m tests.field_rows`` writes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.core.fields import CHAT, RESPONSES
from cluster.core.shapes import Field, Inner, Shape

PAGE = Path(__file__).resolve().parent.parent / "docs" / "fields.md"
HEAD = """\
# Fields: what becomes of what a request says

Every field of OpenAI's two completion requests, at any depth, is *honoured*, *ignored* or *refused*.
Ignored ones are accepted without effect, and `x-ignored-params` names those that a request used, such as
`user,messages[].name`; what clients only repeat from earlier answers is not named. Refused ones are a 400
that says why. A field that is not here, the engine's own included, is a 400 too. Null counts as absent.

`messages[role=user].name` is the member `name` of a message whose role is `user`. This page is written by
`python -m tests.field_rows` from the tables in `cluster/core`, which a test holds to the types of `openai`.
"""


@dataclass(frozen=True)
class Row:
    """One line of the page."""

    path: str
    fate: str
    note: str


def rows(shape: Shape, path: str = "") -> Iterator[Row]:
    """Return a table's rows, each field before those inside it."""
    for name, field in shape.items():
        place = f"{path}.{name}" if path else name
        note = field.note if field.rule != "refused" else _sentence(field.note)
        yield Row(place, _fate(field), note)
        if field.inner is not None:
            yield from _inside(field.inner, place)


def kind_path(inner: Inner, place: str, *kinds: str) -> str:
    """Return the path of the objects of some kinds in the field at ``place``."""
    if not inner.tag:
        return place + ("[]" if inner.array else "")
    return f"{place}[{inner.tag}={'/'.join(kinds)}]"


def page() -> str:
    """Return the page."""
    return "".join([HEAD, *_table("/v1/chat/completions", CHAT), *_table("/v1/responses", RESPONSES)])


def _inside(inner: Inner, place: str) -> Iterator[Row]:
    alike: dict[int, list[str]] = {}
    for kind, shape in inner.shapes.items():
        alike.setdefault(id(shape), []).append(kind)
    for kinds in alike.values():
        yield from rows(inner.shapes[kinds[0]], kind_path(inner, place, *kinds))
    for reason in dict.fromkeys(inner.refused.values()):
        kinds = [kind for kind, why in inner.refused.items() if why == reason]
        yield Row(kind_path(inner, place, *kinds), "refused", _sentence(reason))


def _fate(field: Field) -> str:
    if not field.named:
        return "ignored, not named"
    if not field.harmless:
        return field.rule
    return f"{field.rule}, but for {' and '.join(f'`{json.dumps(value)}`' for value in field.harmless)}"


def _sentence(reason: str) -> str:
    return f"{reason if reason.startswith('gpt-oss') else reason[0].upper() + reason[1:]}."


def _table(route: str, shape: Shape) -> Iterator[str]:
    yield f"\n## `{route}`\n\n| field | | |\n|---|---|---|\n"
    for row in rows(shape):
        yield f"| `{row.path}` | {row.fate} | {row.note} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
