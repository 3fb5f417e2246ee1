"""Reads the protobuf that Go clients send: Kubernetes' envelope, and the messages that helm and kubectl post.

Field numbers are those of ``k8s.io/api`` and ``k8s.io/apimachinery`` (``generated.proto``).
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tests.kube.status import ApiError, Object, bad_request

MAGIC = b"k8s\x00"
_Message = dict[int, tuple[str, Any]]
"""Field's number, its name and what it holds: a type, a message, a list of one of these, or a map."""

_TIME: _Message = {1: ("seconds", "int"), 2: ("nanos", "int")}
_OWNER: _Message = {
    5: ("apiVersion", "string"),
    1: ("kind", "string"),
    3: ("name", "string"),
    4: ("uid", "string"),
    6: ("controller", "bool"),
    7: ("blockOwnerDeletion", "bool"),
}
_METADATA: _Message = {
    1: ("name", "string"),
    2: ("generateName", "string"),
    3: ("namespace", "string"),
    4: ("selfLink", "string"),
    5: ("uid", "string"),
    6: ("resourceVersion", "string"),
    7: ("generation", "int"),
    8: ("creationTimestamp", "time"),
    9: ("deletionTimestamp", "time"),
    11: ("labels", ("map", "string")),
    12: ("annotations", ("map", "string")),
    13: ("ownerReferences", [_OWNER]),
    14: ("finalizers", ["string"]),
    17: ("managedFields", "skip"),
}
_RESOURCE: _Message = {
    1: ("namespace", "string"),
    2: ("verb", "string"),
    3: ("group", "string"),
    4: ("version", "string"),
    5: ("resource", "string"),
    6: ("subresource", "string"),
    7: ("name", "string"),
}
_MESSAGES: dict[str, _Message] = {
    "Secret": {
        1: ("metadata", _METADATA),
        2: ("data", ("map", "bytes")),
        3: ("type", "string"),
        4: ("stringData", ("map", "string")),
        5: ("immutable", "bool"),
    },
    "ConfigMap": {
        1: ("metadata", _METADATA),
        2: ("data", ("map", "string")),
        3: ("binaryData", ("map", "bytes")),
        4: ("immutable", "bool"),
    },
    "Namespace": {
        1: ("metadata", _METADATA),
        2: ("spec", {1: ("finalizers", ["string"])}),
        3: ("status", "skip"),
    },
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int"),
        2: ("preconditions", {1: ("uid", "string"), 2: ("resourceVersion", "string")}),
        3: ("orphanDependents", "bool"),
        4: ("propagationPolicy", "string"),
        5: ("dryRun", ["string"]),
    },
    "SelfSubjectAccessReview": {
        1: ("metadata", _METADATA),
        2: (
            "spec",
            {
                1: ("resourceAttributes", _RESOURCE),
                2: ("nonResourceAttributes", {1: ("path", "string"), 2: ("verb", "string")}),
            },
        ),
        3: ("status", "skip"),
    },
    "SelfSubjectReview": {1: ("metadata", _METADATA), 2: ("status", "skip")},
}


def decoded(data: bytes) -> Object:
    """Return the object in an envelope. Raises `ApiError` for a message that is not known here."""
    if not data.startswith(MAGIC):
        raise bad_request("the object provided is unrecognized")
    about: Object = {}
    raw = b""
    for number, value in _wire(data[len(MAGIC) :]):
        if number == 1:
            about = _message(value, {1: ("apiVersion", "string"), 2: ("kind", "string")})
        elif number == 2:
            raw = value
    if about.get("kind") not in _MESSAGES:
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"this stand-in reads protobuf of {', '.join(_MESSAGES)}, not of {about.get('kind')}",
        )
    return {**about, **_message(raw, _MESSAGES[about["kind"]])}


def _message(data: bytes, fields: _Message) -> Object:
    made: Object = {}
    for number, value in _wire(data):
        if number not in fields:
            raise bad_request(f"an unknown field of protobuf: {number}")
        name, holds = fields[number]
        if isinstance(holds, list):
            made.setdefault(name, []).append(_value(value, holds[0]))
        elif isinstance(holds, tuple):
            entry = _message(value, {1: ("key", "string"), 2: ("value", holds[1])})
            made.setdefault(name, {})[entry.get("key", "")] = entry.get("value", "")
        elif holds != "skip" and (found := _value(value, holds)) not in ("", None):
            made[name] = found
    return made


def _value(value: Any, holds: Any) -> Any:
    if isinstance(holds, dict):
        return _message(value, holds)
    if holds == "string":
        return value.decode()
    if holds == "bytes":
        return base64.b64encode(value).decode()
    if holds == "bool":
        return bool(value)
    if holds == "time":
        seconds = _message(value, _TIME).get("seconds")
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else None
    return value


def _wire(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field: a number, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind == 2:
            length, at = _varint(data, at)
            yield number, data[at : at + length]
            at += length
        else:
            raise bad_request(f"a wire type that Kubernetes does not use: {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
