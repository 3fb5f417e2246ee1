"""Which objects a list or a watch is about: label and field selectors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.kube.kinds import Kind
from tests.kube.status import Object, bad_request

_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_EQUAL = re.compile(r"([^!=\s]+)\s*(==|=|!=)\s*([^!=\s]*)")
_FIELDS = {
    "Pod": {"spec.nodeName", "status.phase", "spec.restartPolicy", "spec.serviceAccountName"},
    "Event": {
        *("type", "reason", "source", "reportingComponent"),
        *(
            f"involvedObject.{name}"
            for name in ("kind", "name", "namespace", "uid", "apiVersion", "fieldPath")
        ),
    },
    "Secret": {"type"},
    "Namespace": {"status.phase"},
    "Node": {"spec.unschedulable"},
    "Job": {"status.successful"},
}
"""Fields that may select, beside an object's name and namespace."""


@dataclass(frozen=True)
class Selection:
    """What is asked for."""

    kind: Kind
    namespace: str | None
    """None: every namespace."""
    labels: Callable[[Mapping[str, str]], bool]
    fields: tuple[tuple[str, str, bool], ...]
    """Path, value, and whether they shall be equal."""

    @property
    def name(self) -> str | None:
        """The one object that is asked for by name, where it is one."""
        return next((value for path, value, equal in self.fields if equal and path == "metadata.name"), None)

    def takes(self, kind: Kind, item: Object | None) -> bool:
        """Whether an object is one of those."""
        if item is None or kind != self.kind:
            return False
        metadata = item["metadata"]
        if self.namespace is not None and metadata.get("namespace") != self.namespace:
            return False
        return self.labels(metadata.get("labels") or {}) and all(
            (_at(item, path) == value) == equal for path, value, equal in self.fields
        )


def selection(kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Selection:
    """Read a request's selectors. Raises `ApiError`."""
    fields = tuple(_field(kind, part) for part in query.get("fieldSelector", "").split(",") if part)
    return Selection(kind, namespace, label_selector(query.get("labelSelector", "")), fields)


def label_selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Return the test that a label selector stands for. Raises `ApiError`."""
    tests = [_requirement(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(text):
        key, action, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        return lambda labels: (key in labels and labels[key] in values) == (action == "in")
    if found := _EQUAL.fullmatch(text):
        name, sign, value = found.groups()
        return lambda labels: (labels.get(name) == value) == (sign != "!=")
    if re.fullmatch(r"!?[A-Za-z0-9._/-]+", text):
        wanted = not text.startswith("!")
        return lambda labels: (text.lstrip("!") in labels) == wanted
    raise bad_request(f"unable to parse requirement: {text}")


def _field(kind: Kind, text: str) -> tuple[str, str, bool]:
    found = _EQUAL.fullmatch(text)
    if found is None:
        raise bad_request(f"invalid field selector: {text}")
    path, sign, value = found.groups()
    if path not in {"metadata.name", "metadata.namespace", *_FIELDS.get(kind.kind, ())}:
        raise bad_request(f"field label not supported: {path}")
    return path, value, sign != "!="


def _at(item: Object, path: str) -> str:
    value: object = item
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
