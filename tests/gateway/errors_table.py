"""``docs/errors.yaml`` as bytes to send: every example, written out and varied."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[2] / "docs" / "errors.yaml"
TABLE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
GOOD: dict[str, dict[str, Any]] = {
    "chat": {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"model": "gpt-oss-120b", "input": "Hi"},
}


@dataclass(frozen=True)
class Vector:
    """One request, and what it must get."""

    name: str
    wire: bytes
    answer: dict[str, Any]
    """The table's answer, with what the example replaces."""
    key: str
    before: int
    during: str | None


def vectors(keys: dict[str, str]) -> list[Vector]:
    """Return all vectors; ``keys`` are the keys by the names that the table uses, ``plain`` among them."""
    found = []
    for case in TABLE["cases"]:
        for part, answer in enumerate(case["answers"]):
            for number, example in enumerate(answer.get("examples", ())):
                name = f"{case['id']}-{part}-{number}"
                wanted = {**answer, **{key: example[key] for key in _REPLACES if key in example}}
                for variant, single in _written_out(example, once=answer.get("once", False)):
                    more = {"param": single["param"]} if "param" in single else {}
                    written = {**wanted, **more, "param": _value({**wanted, **more}.get("param"))}
                    found.append(_vector(f"{name}{variant}", single, written, keys))
    return found


_REPLACES = ("type", "param", "code", "message", "event")


def _written_out(example: dict[str, Any], *, once: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return an example once for each endpoint, value and way of streaming that it stands for."""
    for name, single in _endpoints(example):
        yield name, single
        endpoint = next((key for key in GOOD if key in single), None)
        if endpoint is not None and "stream" not in single[endpoint] and not once:
            yield f"{name}-stream", {**single, "streamed": True}


def _endpoints(example: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    rest = {key: value for key, value in example.items() if key not in ("both", "each", "schema", "said")}
    if "both" in example:
        yield from ((f"-{one}", {**rest, one: example["both"]}) for one in GOOD)
    elif "schema" in example:
        inner = {"name": "a", "schema": example["schema"]}
        yield "-chat", {**rest, "chat": {"response_format": {"type": "json_schema", "json_schema": inner}}}
        form = {"text": {"format": {"type": "json_schema", **inner}}}
        yield "-responses", {**rest, "responses": form, "param": "text.format"}
    elif "said" in example:
        yield "-chat", {**rest, "chat": {"messages": [{"role": "user", "content": example["said"]}]}}
        yield "-responses", {**rest, "responses": {"input": example["said"]}}
    elif "each" in example:
        for field, values in example["each"].items():
            for number, value in enumerate(values):
                yield f"-{field}-{number}", {**rest, "chat": {field: value}, "param": field}
    else:
        yield "", rest


def _vector(name: str, example: dict[str, Any], answer: dict[str, Any], keys: dict[str, str]) -> Vector:
    key = keys[example.get("key", "plain")]
    wire = example["wire"].encode("latin-1") if "wire" in example else _request(example)
    wire = wire.replace(b"{key}", b"Bearer " + key.encode()).replace(b"{raw}", key.encode())
    return Vector(name, wire, answer, key, example.get("before", 0), example.get("during"))


def _request(example: dict[str, Any]) -> bytes:
    endpoint = "responses" if "responses" in example else "chat"
    body = _body(endpoint, example)
    headers: dict[str, Any] = {
        "host": "gateway",
        "authorization": "{key}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **_value(example.get("headers", {})),
    }
    lines: list[str] = [_value(example.get("line", f"POST {PATHS[endpoint]} HTTP/1.1"))]
    for name, value in headers.items():
        values = value if isinstance(value, list) else [value]
        lines += [f"{name}: {one}" for one in values if one is not None]
    head = "\r\n".join(lines).encode("latin-1")
    return head + b"\r\n\r\n" + body


def _body(endpoint: str, example: dict[str, Any]) -> bytes:
    if "body" in example:
        return str(example["body"]).encode()
    if "hex" in example:
        return bytes.fromhex(str(example["hex"]))
    if "wide_number" in example:
        return b'{"max_tokens": ' + b"9" * int(example["wide_number"]) + b"}"
    changes = example.get(endpoint, {})
    streamed = {"stream": True} if example.get("streamed") else {}
    document = {**GOOD[endpoint], **streamed, **_value(changes)}
    for name in example.get("without", ()):
        document.pop(name)
    return json.dumps(document, ensure_ascii=False).encode()


def _value(node: Any) -> Any:
    """Return a value with its ``$`` words written out."""
    if isinstance(node, list):
        return [_value(item) for item in node]
    if not isinstance(node, dict):
        return node
    for word, write in _WORDS.items():
        if word in node:
            return write(node)
    made = {key: _value(item) for key, item in node.items() if key not in ("$keys", "$long")}
    if "$keys" in node:
        made |= {f"k{number}": "v" for number in range(node["$keys"])}
    if "$long" in node:
        made["k" * node["$long"]] = 1
    return made


def _repeated(node: dict[str, Any]) -> Any:
    unit = _value(node["$repeat"])
    return (unit if unit and isinstance(unit, str | list) else [unit]) * node["times"]


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "array", "items": schema}
    return schema


_WORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$repeat": _repeated,
    "$deep": lambda node: json.loads("[" * node["$deep"] + "]" * node["$deep"]),
    "$nested": lambda node: _nested(node["$nested"]),
    "$join": lambda node: "".join(_value(item) for item in node["$join"]),
}
