"""The ways to change an object: JSON merge patch, strategic merge patch, JSON patch."""

import copy
from collections.abc import Sequence
from typing import Any

from tests.kube.schemas import Shape
from tests.kube.status import ApiError, Object, bad_request

_ORDER, _REMOVE, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def merged(target: Any, patch: Any) -> Any:
    """Return RFC 7386's merge of a patch into a value."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def merged_strategically(target: Any, patch: Any, shape: Shape) -> Any:
    """Return the merge by which lists of a schema's kinds are merged by key."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    if (kept := patch.get(_RETAIN)) is not None:
        result = {key: value for key, value in result.items() if key in kept}
    for key, value in patch.items():
        if key.startswith("$"):
            if key.startswith(_REMOVE):
                name = key.removeprefix(_REMOVE)
                result[name] = [item for item in result.get(name, ()) if item not in value]
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            order = patch.get(_ORDER + key, ())
            result[key] = _merged_list(result.get(key) or [], value, order, shape.field(key))
        else:
            result[key] = merged_strategically(result.get(key), value, shape.field(key))
    return result


def _merged_list(target: list[Any], patch: list[Any], order: Sequence[Any], shape: Shape) -> list[Any]:
    if shape.merges_values:
        return [*target, *(item for item in patch if item not in target)]
    key = shape.merge_key
    if key is None:
        return patch
    items = {item[key]: item for item in target}
    for change in patch:
        if change.get("$patch") == "replace":
            items = {item[key]: item for item in patch if "$patch" not in item}
            break
        if key not in change:
            raise bad_request(f"map does not contain declared merge key: {key}")
        if change.get("$patch") == "delete":
            items.pop(change[key], None)
        else:
            items[change[key]] = merged_strategically(items.get(change[key]), change, shape.items)
    wanted = [entry[key] for entry in order]
    return sorted(
        items.values(), key=lambda item: wanted.index(item[key]) if item[key] in wanted else len(wanted)
    )


def patched(target: Object, operations: Any) -> Object:
    """Return what RFC 6902's operations make of an object. Raises `ApiError`."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    root: Object = copy.deepcopy(target)
    for step in operations:
        _act(root, step)
    return root


def _act(root: Object, step: Object) -> None:
    action, path = step["op"], _parts(step["path"])
    if action in {"move", "copy"}:
        source = _parts(step["from"])
        value = copy.deepcopy(_get(root, source))
        if action == "move":
            _remove(root, source)
        _add(root, path, value)
    elif action == "add":
        _add(root, path, step["value"])
    elif action == "remove":
        _remove(root, path)
    elif action == "replace":
        _remove(root, path)
        _add(root, path, step["value"])
    elif action == "test":
        if _get(root, path) != step.get("value"):
            raise _failed(f"testing value {step['path']} failed")
    else:
        raise bad_request(f"unknown operation {action}")


def _parts(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _get(root: Any, path: Sequence[str]) -> Any:
    for part in path:
        try:
            root = root[int(part) if isinstance(root, list) else part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise _failed(f"there is nothing at /{'/'.join(path)}") from None
    return root


def _add(root: Any, path: Sequence[str], value: Any) -> None:
    parent = _get(root, path[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else int(path[-1]), value)
    else:
        parent[path[-1]] = value


def _remove(root: Any, path: Sequence[str]) -> None:
    _get(root, path)
    parent = _get(root, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]


def _failed(why: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")
