"""Ask a new replica a few short questions before it is ready: the first costs seconds, and any may fail."""

import asyncio
import json
from typing import Any

from cluster.core.effort import EFFORTS
from cluster.serving.middleware import App, Message

TOKENS = 16
"""Output tokens of each question: enough for every kernel to have run."""


class WarmUpError(RuntimeError):
    """The engine started but does not answer; the message has its status and error."""


async def warm_up(app: App, *, model: str, key: str) -> None:
    """Ask at every effort on chat, and once on Responses. Raises `WarmUpError`."""
    for effort in EFFORTS:
        chat = {
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "reasoning_effort": effort,
            "max_completion_tokens": TOKENS,
        }
        await _ask(app, "/v1/chat/completions", chat, key)
    await _ask(app, "/v1/responses", {"model": model, "input": "Hello", "max_output_tokens": TOKENS}, key)


async def _ask(app: App, path: str, body: dict[str, Any], key: str) -> None:
    status, answer = await _post(app, path, json.dumps(body).encode(), key)
    if status != 200:
        raise WarmUpError(f"{path} answers {status}: {answer[:500].decode(errors='replace')}")


async def _post(app: App, path: str, body: bytes, key: str) -> tuple[int, bytes]:
    """Call the app in this process and return the status and the body."""
    sent: list[Message] = []
    request = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if request:
            return request.pop()
        return await asyncio.Future()  # the client stays until the answer is complete

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"replica"),
            (b"authorization", f"Bearer {key}".encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }
    await app(scope, receive, send)
    status = next(message["status"] for message in sent if message["type"] == "http.response.start")
    return status, b"".join(message.get("body", b"") for message in sent)
