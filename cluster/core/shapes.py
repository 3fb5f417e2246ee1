"""What the objects of a request may hold: their fields, what becomes of each, and the one reader of them all.

A field is *honoured* (it has its effect), *ignored* (accepted without effect, and named in
``x-ignored-params``) or *refused* (400 with the reason). What stands in no shape is unknown: 400.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cluster.core.checks import Check, mapping, text
from cluster.core.invalid import InvalidRequest, missing, refused_value, unknown, unsupported, wrong_value

Rule = Literal["honoured", "ignored", "refused"]
Reader = Callable[[Any, str, list[str]], Any]
"""As a `Check`, for a value that holds objects: it adds the paths of ignored fields in it to the list."""

_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Field:
    """What becomes of one field. Made by the functions below."""

    rule: Rule
    read: Check | Reader
    note: str = ""
    """For the documentation: the effect, or why there is none."""
    harmless: tuple[Any, ...] = ()
    """Values of an ignored or refused field that ask for nothing but what is done anyway."""
    forwarded: bool = False
    """Whether the engine sees the field as it is read; of fields of the request itself."""
    inner: "Inner | None" = None
    """The objects in its value; then ``read`` is a `Reader`."""
    named: bool = True
    """Whether ``x-ignored-params`` names it when it is ignored."""

    def asks_nothing(self, value: Any) -> bool:
        """Whether ``value`` asks for no more than what happens without the field."""
        return any(type(value) is type(same) and value == same for same in self.harmless)


Shape = Mapping[str, Field]
"""The fields of one kind of object."""


@dataclass(frozen=True, slots=True)
class Inner:
    """The kinds of object that a field may hold, alone or in an array."""

    shapes: Mapping[str, Shape]
    """By the value of ``tag``; of a single kind, by the empty string."""
    tag: str = ""
    """The member that tells the kinds apart: ``type`` or ``role``; empty for a single kind."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Kinds that OpenAI knows and that are refused here, each with its reason."""
    array: bool = False
    default: str | None = None
    """The kind of an object without a tag; None: it needs one."""

    def pick(self, given: Mapping[str, Any], path: str) -> Shape:
        """Return the shape of an object. Raises `InvalidRequest` for a kind that has none."""
        kind = given.get(self.tag)
        if kind is None:
            kind = self.default
        shape = self.shapes.get(kind) if type(kind) is str else None
        if shape is None:
            raise self._no_kind(kind, f"{path}.{self.tag}")
        return shape

    def _no_kind(self, kind: Any, place: str) -> InvalidRequest:
        if kind is None:
            return missing(place)
        if text(kind, place) in self.refused:
            return refused_value(place, kind, self.refused[kind], self.shapes)
        return wrong_value(place, kind, self.shapes)


def passed(check: Check, note: str = "") -> Field:
    """Return a field that goes to the engine as it is checked."""
    return Field("honoured", check, note, forwarded=True)


def used(check: Check, note: str = "") -> Field:
    """Return a field that the gateway acts on, or rebuilds."""
    return Field("honoured", check, note)


def nested(read: Reader, inner: Inner, note: str = "", *, forwarded: bool = False) -> Field:
    """Return an honoured field that holds objects."""
    return Field("honoured", read, note, forwarded=forwarded, inner=inner)


def ignored(check: Check, note: str, *harmless: Any) -> Field:
    """Return a field without effect, named unless its value is one of ``harmless``."""
    return Field("ignored", check, note, harmless)


def repeated(note: str = "Repeated from an answer; it asks for nothing.") -> Field:
    """Return a field that clients copy from answers: it asks for nothing, and is not named."""
    return Field("ignored", _anything, note, named=False)


def refused(reason: str, *harmless: Any) -> Field:
    """Return a field that OpenAI knows and that is refused here, unless its value is one of ``harmless``."""

    def refuse(_value: Any, path: str) -> Any:
        raise unsupported(path, reason)

    return Field("refused", refuse, reason, harmless)


def one(shape: Shape, note: str, *, forwarded: bool = False) -> Field:
    """Return an honoured field that holds one object of one kind."""

    def read(value: Any, path: str, unused: list[str]) -> dict[str, Any]:
        return take(shape, mapping(value, path), path, unused)

    return nested(read, Inner({"": shape}), note, forwarded=forwarded)


def take(shape: Shape, given: Mapping[str, Any], path: str, unused: list[str]) -> dict[str, Any]:
    """Return the honoured fields of an object as they are read; null counts as absent.

    ``path`` is the object's own, empty for the request itself. Adds the paths of ignored fields to
    ``unused``, once each and without indexes. Raises `InvalidRequest`.
    """
    taken = {}
    for key, value in given.items():
        if value is None:
            continue  # clients dump whole models, nulls and all
        place = f"{path}.{key}" if path else key
        known = shape.get(key)
        if known is None:
            raise unknown(place)
        if known.harmless and known.asks_nothing(value):
            continue
        read: Any = known.read
        item = read(value, place) if known.inner is None else read(value, place, unused)
        if known.rule == "honoured":
            if item is not None:
                taken[key] = item
        elif known.named and (name := _INDEX.sub("[]", place)) not in unused:
            unused.append(name)
    return taken


def required(taken: Mapping[str, Any], key: str, path: str) -> Any:
    """Return a field of a taken object. Raises `InvalidRequest` when it is absent."""
    if key not in taken:
        raise missing(f"{path}.{key}")
    return taken[key]


def _anything(value: Any, path: str) -> Any:  # noqa: ARG001 - the form of a check
    return value
