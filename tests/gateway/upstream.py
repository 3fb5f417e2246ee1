"""An upstream that follows a script, byte by byte: faults that no real engine gives on demand."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

HEAD = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n"
REPLICA = "x-engine-replica: replica-1\r\nx-engine-load: r=1;w=0;k=0.010;s=1024\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    + REPLICA.encode()
    + b"\r\n"
)
END = b"0\r\n\r\n"


@dataclass
class Seen:
    """One request as the upstream got it, and when its connection ended."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a test whose script waits for it."""


class Connection:
    """What a script may do."""

    def __init__(self, writer: asyncio.StreamWriter, seen: Seen) -> None:
        self._writer, self.seen = writer, seen

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def event(self, *events: bytes) -> None:
        """Write each of ``events`` as one chunk."""
        for data in events:
            await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def until_gone(self) -> None:
        """Wait until the gateway has closed the connection."""
        await self.seen.gone.wait()

    def reset(self) -> None:
        """Abort the connection."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


Script = Callable[[Connection], Awaitable[None]]


class Upstream:
    """Serves each request with the next script; the last one serves all further requests."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.requests: list[Seen] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen on a free port of loopback; return the base URL."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def then(self, *scripts: Script) -> None:
        """Set the scripts of the requests to come."""
        self.scripts = list(scripts)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while seen := await _read(reader):
                self.requests.append(seen)
                script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                connection = Connection(writer, seen)
                running = asyncio.ensure_future(script(connection))
                more = asyncio.ensure_future(reader.read(1))
                await asyncio.wait((running, more), return_when=asyncio.FIRST_COMPLETED)
                if more.done():
                    more.exception()  # a reset is an end like any other
                    seen.gone.set()
                    await running
                    return
                more.cancel()
                await asyncio.gather(more, return_exceptions=True)
                await running
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            self._tasks.discard(task)


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(head[0].split()[1], headers, json.loads(body))


def data(value: Any) -> bytes:
    """Return an event with ``value``, in vLLM's compact JSON."""
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, Any], *, finish: str | None = None, index: int = 0) -> bytes:
    """Return one chat chunk."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return data(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-oss-120b",
            "choices": [choice],
        }
    )


def usage_chunk(*, prompt: int = 10, reasoning: int = 3, answer: int = 2, cached: int = 0) -> bytes:
    """Return the chunk that carries the usage."""
    return data(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-oss-120b",
            "choices": [],
            "usage": chat_usage(prompt=prompt, reasoning=reasoning, answer=answer, cached=cached),
        }
    )


def chat_usage(*, prompt: int = 10, reasoning: int = 3, answer: int = 2, cached: int = 0) -> dict[str, Any]:
    """Return a chat usage object."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reasoning + answer,
        "total_tokens": prompt + reasoning + answer,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


ROLE = chunk({"role": "assistant", "content": ""})
DONE = b"data: [DONE]\n\n"


def completion(content: str | None = "Hello", *, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """Return a whole chat completion as vLLM writes it, its own fields included."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-oss-120b",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": content,
                    "refusal": None,
                    "tool_calls": [],
                    "reasoning": "private",
                    **message,
                },
                "logprobs": None,
                "finish_reason": finish,
                "stop_reason": 200002,
                "token_ids": None,
            }
        ],
        "usage": chat_usage(),
        "prompt_logprobs": None,
        "kv_transfer_params": None,
    }


def named(kind: str, **fields: Any) -> bytes:
    """Return an event of a Responses stream; ``kind`` is its type without ``response.``."""
    return f"event: response.{kind}\n".encode() + data({"type": f"response.{kind}", **fields})


def response_item(identity: str, text: str) -> dict[str, Any]:
    """Return a message of a response."""
    content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    return {
        "type": "message",
        "id": identity,
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


def response(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """Return a Responses object with the usage of `chat_usage`, once it has an output."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-oss-120b",
        "status": status,
        "output": list(output),
        "usage": usage if output else None,
        **more,
    }


def respond(status: int, body: Any, *, content_type: str = "application/json", headers: str = "") -> Script:
    """Return a script that answers with a whole body: JSON, or text as it is."""
    payload = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    async def script(connection: Connection) -> None:
        head = HEAD % (status, b"X", content_type.encode())
        extra = f"{REPLICA}{headers}content-length: {len(payload)}\r\n\r\n".encode()
        await connection.send(head + extra + payload)

    return script


def stream(*events: bytes, end: bool = True) -> Script:
    """Return a script that streams ``events``; without ``end`` the connection is then cut."""

    async def script(connection: Connection) -> None:
        await connection.send(STREAM_HEAD)
        await connection.event(*events)
        if end:
            await connection.send(END)
        else:
            connection.close()

    return script


def good_stream(*words: str) -> Script:
    """Return a script that streams a good answer with hidden reasoning and usage comments."""
    return stream(
        ROLE,
        b": usage p=10 r=3 a=0\n\n",
        *(chunk({"content": word}) for word in words or ("Hel", "lo")),
        chunk({}, finish="stop"),
        usage_chunk(),
        DONE,
    )


def failing(kind: str) -> Script:
    """Return a script that loses the connection: ``reset`` or ``close`` before any byte."""

    async def script(connection: Connection) -> None:
        connection.reset() if kind == "reset" else connection.close()

    return script


async def silent(connection: Connection) -> None:
    """Answer nothing until the gateway leaves."""
    await connection.until_gone()
