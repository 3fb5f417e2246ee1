"""Who owns which field: ``managedFields``, and server-side apply, which goes by them.

A field's path is a tuple of ``fieldsV1``'s own elements: ``f:<name>``, ``k:<keys as JSON>`` for an item of a
list with keys, ``v:<value as JSON>`` for one of a set. An item of a list with keys is a field beside its own.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.kube.schemas import Shape
from tests.kube.status import ApiError, Object

Path = tuple[str, ...]


class Owner(NamedTuple):
    """Who owns fields."""

    manager: str
    operation: str
    """``Apply`` or ``Update``."""
    subresource: str = ""


_NOT_OWNED = {"apiVersion", "kind"}
_NOT_OWNED_METADATA = {
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"),
    *("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"),
}
_DEFAULT_KEYS = {"protocol": "TCP"}


def fields(body: Object, shape: Shape) -> dict[Path, Any]:
    """Return each field of an object that can be owned, with its value."""
    owned = {key: value for key, value in body.items() if key not in _NOT_OWNED}
    if isinstance(owned.get("metadata"), dict):
        metadata = owned["metadata"]
        owned["metadata"] = {key: metadata[key] for key in metadata.keys() - _NOT_OWNED_METADATA}
    return {path: value for path, value in _fields(owned, shape) if path not in {(), ("f:metadata",)}}


def _fields(value: Any, shape: Shape, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and not shape.atomic:
        for name, item in value.items():
            yield from _fields(item, shape.field(name), (*path, f"f:{name}"))
    elif isinstance(value, list) and value and shape.list_keys:
        for item in value:
            place = (*path, item_element(item, shape))
            yield place, None
            yield from _fields(item, shape.items, place)
    elif isinstance(value, list) and value and shape.is_set:
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), item
    else:
        yield path, value


def item_element(item: Object, shape: Shape) -> str:
    """Return the path's element of an item of a list with keys."""
    keys = {key: item.get(key, _DEFAULT_KEYS.get(key)) for key in shape.list_keys}
    told = {key: value for key, value in sorted(keys.items()) if value is not None}
    return f"k:{json.dumps(told, separators=(',', ':'))}"


def duplicates(value: Any, shape: Shape, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield place and keys of each item that a list with keys has twice: server-side apply refuses it."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from duplicates(item, shape.field(name), f"{path}.{name}")
    elif isinstance(value, list) and shape.list_keys:
        seen: set[str] = set()
        for item in value:
            keys = item_element(item, shape).removeprefix("k:")
            if keys in seen:
                yield path, keys
            seen.add(keys)
            yield from duplicates(item, shape.items, f"{path}[{keys}]")


def applied(
    live: Object | None, wanted: Object, shape: Shape, manager: str, *, force: bool, now: str
) -> Object:
    """Return what server-side apply makes of an object. Raises `ApiError` for conflicts."""
    if twice := next(duplicates(wanted, shape), None):
        place, keys = twice
        told = f"failed to create typed patch object: .{place.strip('.')}: duplicate entries for key [{keys}]"
        raise ApiError(500, "InternalError", told)
    mine, me = fields(wanted, shape), Owner(manager, "Apply")
    if live is None:
        owned = {"managedFields": [_entry(me, wanted, set(mine), now)]}
        return {**wanted, "metadata": {**wanted.get("metadata", {}), **owned}}
    owners = owners_of(live)
    held = fields(live, shape)
    conflicts = {
        owner: {path for path in paths & mine.keys() if held.get(path) != mine[path]}
        for owner, paths in owners.items()
        if owner != me
    }
    conflicts = {owner: paths for owner, paths in conflicts.items() if paths}
    if conflicts and not force:
        raise _conflict(conflicts)
    for owner, paths in conflicts.items():
        owners[owner] -= paths
    dropped = owners.get(me, set()) - mine.keys()
    for owner, paths in owners.items():
        if owner != me:
            dropped -= paths
    made: Object = _merged(live, wanted, shape)
    for path in sorted(dropped, key=len, reverse=True):
        _remove(made, path, shape)
    owners[me] = set(mine)
    made["metadata"]["managedFields"] = [
        _entry(owner, made, paths, _time(live, owner, paths) or now)
        for owner, paths in owners.items()
        if paths
    ]
    return made


def updated(old: Object | None, new: Object, shape: Shape, owner: Owner, *, now: str) -> list[Object]:
    """Return the ``managedFields`` after a write that is no apply: who writes a field owns it alone."""
    given = new["metadata"].get("managedFields")
    owners = owners_of(new if given else old or {})
    before, after = fields(old or {}, shape), fields(new, shape)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    for paths in owners.values():
        paths.difference_update(changed | gone)
    if changed:
        owners.setdefault(owner, set()).update(changed)
    return [
        _entry(owner, new, paths, _time(old or {}, owner, paths) or now)
        for owner, paths in owners.items()
        if paths
    ]


def owners_of(body: Object) -> dict[Owner, set[Path]]:
    """Return each owner's fields, read from ``managedFields``."""
    return {
        Owner(entry["manager"], entry["operation"], entry.get("subresource", "")): set(
            _unfolded(entry["fieldsV1"])
        )
        for entry in body.get("metadata", {}).get("managedFields") or ()
        if entry
    }


def _entry(owner: Owner, body: Object, paths: set[Path], time: str) -> Object:
    return {
        "manager": owner.manager,
        "operation": owner.operation,
        "apiVersion": body["apiVersion"],
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": _folded(paths),
        **({"subresource": owner.subresource} if owner.subresource else {}),
    }


def _time(body: Object, owner: Owner, paths: set[Path]) -> str | None:
    """Return when an owner's fields were last others than now; None: now."""
    for entry in body.get("metadata", {}).get("managedFields") or ():
        found = (entry["manager"], entry["operation"], entry.get("subresource", ""))
        if found == owner and set(_unfolded(entry["fieldsV1"])) == paths:
            return str(entry["time"])
    return None


def _folded(paths: set[Path]) -> Object:
    made: Object = {}
    for path in sorted(paths):
        node = made
        for element in path:
            node = node.setdefault(element, {})
    _mark(made, paths)
    return made


def _mark(node: Object, paths: set[Path], path: Path = ()) -> None:
    """Say of a field that is owned beside its own fields that it is."""
    for element, below in list(node.items()):
        _mark(below, paths, (*path, element))
    if path in paths and node:
        node["."] = {}


def _unfolded(node: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    if not node and path:
        yield path
    for element, below in node.items():
        if element == ".":
            yield path
        else:
            yield from _unfolded(below, (*path, element))


def _merged(live: Any, wanted: Any, shape: Shape) -> Any:
    if isinstance(wanted, dict) and isinstance(live, dict) and not shape.atomic:
        made = copy.deepcopy(live)
        for name, value in wanted.items():
            made[name] = _merged(live.get(name), value, shape.field(name))
        return made
    if isinstance(wanted, list) and isinstance(live, list) and shape.list_keys:
        items = {item_element(item, shape): item for item in live}
        for item in wanted:
            element = item_element(item, shape)
            items[element] = _merged(items.get(element), item, shape.items)
        return list(items.values())
    if isinstance(wanted, list) and isinstance(live, list) and shape.is_set:
        return [*live, *(item for item in wanted if item not in live)]
    return copy.deepcopy(wanted)


def _remove(root: Any, path: Path, shape: Shape) -> None:
    """Take a field away, and what holds nothing any more for it."""
    element, rest = path[0], path[1:]
    if isinstance(root, dict) and (name := element.removeprefix("f:")) in root:
        if rest:
            _remove(root[name], rest, shape.field(name))
        if not rest or root[name] in ({}, []):
            del root[name]
    elif isinstance(root, list):
        for item in list(root):
            same = f"v:{json.dumps(item)}" if element.startswith("v:") else item_element(item, shape)
            if same == element:
                if rest:
                    _remove(item, rest, shape.items)
                else:
                    root.remove(item)


def _conflict(conflicts: Mapping[Owner, set[Path]]) -> ApiError:
    told = [
        f'conflict with "{owner[0]}" using {owner[1]}: {_dotted(path)}'
        for owner, paths in conflicts.items()
        for path in sorted(paths)
    ]
    count = f"{len(told)} conflict{'s' if len(told) > 1 else ''}"
    return ApiError(409, "Conflict", f"Apply failed with {count}: {', '.join(told)}")


def _dotted(path: Path) -> str:
    parts = [f".{element[2:]}" if element.startswith("f:") else f"[{element[2:]}]" for element in path]
    return "".join(parts)
