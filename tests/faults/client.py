"""The clients' side of the ledger: what each request asked, and everything that came back.

The simulated engine's text follows from the question alone, so that a client knows each word it is to get and
each token it is to be charged: a word twice, or one that is missing, shows.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from cluster.core.effort import Effort
from cluster.core.request import Endpoint
from cluster.serving.sim import MAX_MODEL_LEN
from cluster.serving.sim.request import Context, parse
from cluster.serving.sim.text import Generation, generate
from cluster.settings import SimulatedEngine

PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
HUNG_S = 15.0
"""Seconds beyond the longest request after which a client without an end counts as hung."""

End = Literal["complete", "refused", "told", "left", "cut", "unreached", "hung", "clean"]
"""``complete``: a whole answer. ``refused``: a status and an error body. ``told``: an error event. ``left``:
the client itself left. ``cut``: the connection broke. ``unreached``: nobody listened. ``hung``: no end came.
``clean``: an end that looks like that of a whole answer, and is none."""


@dataclass(frozen=True)
class Question:
    """One request of the load."""

    number: int
    model: str
    effort: Effort
    endpoint: Endpoint = "chat"
    stream: bool = True
    leave_after: int | None = None
    """Tokens after which its client leaves."""
    fault: str = ""
    """A word of `cluster.serving.sim.faults`."""

    @property
    def body(self) -> dict[str, Any]:
        """The body that is sent."""
        words = f"Number {self.number}: what do you know about the tide at Saint-Malo? {self.fault}".strip()
        common: dict[str, Any] = {"model": self.model, "stream": self.stream}
        if self.endpoint == "responses":
            return {**common, "input": words, "reasoning": {"effort": self.effort}}
        usage = {"stream_options": {"include_usage": True}} if self.stream else {}
        messages = [{"role": "user", "content": words}]
        return {**common, **usage, "messages": messages, "reasoning_effort": self.effort}

    def expected(self, engine: SimulatedEngine) -> tuple[Generation, int]:
        """Return what the engine says to it, and the tokens of its prompt."""
        job = parse(self.endpoint, self.body, Context(self.model, MAX_MODEL_LEN))
        return generate(job, engine, model=self.model), job.prompt_tokens


@dataclass
class Got:
    """What one client got. Times are seconds of the monotonic clock."""

    question: Question
    gateway: str
    sent_s: float
    request_id: str | None = None
    status: int = 0
    code: str | None = None
    """Code of the error that it was told."""
    answer: str = ""
    reasoning: str = ""
    tokens: int = 0
    """Events that carried a word."""
    usage: tuple[int, int] | None = None
    """Tokens of the prompt and of the output."""
    disorder: str = ""
    """What is wrong with the form of what came."""
    end: End = "hung"
    end_s: float = 0.0
    finished: bool = field(default=False, repr=False)


class Client:
    """Sends questions to gateways, and notes what comes."""

    def __init__(self, http: aiohttp.ClientSession, key: str, *, limit_s: float) -> None:
        self._http, self._limit_s = http, limit_s
        self._headers = {"authorization": f"Bearer {key}"}

    async def ask(self, question: Question, gateway: str, api: str) -> Got:
        """Ask once; the end is told in what is returned."""
        got = Got(question, gateway, time.monotonic())
        try:
            async with asyncio.timeout(self._limit_s):
                await self._ask(got, api + PATHS[question.endpoint])
        except TimeoutError:
            got.end = "hung"
        except aiohttp.ClientConnectorError:
            got.end = "unreached"
        except (aiohttp.ClientError, ConnectionError):
            got.end = "cut" if got.end != "told" else "told"
        got.end_s = time.monotonic()
        return got

    async def _ask(self, got: Got, url: str) -> None:
        async with self._http.post(url, json=got.question.body, headers=self._headers) as response:
            got.status, got.request_id = response.status, response.headers.get("x-request-id")
            if response.status != 200:
                read_error(got, await response.read())
            elif got.question.stream:
                await _read_stream(got, response)
            else:
                _read_whole(got, json.loads(await response.read()))


def read_error(got: Got, body: bytes) -> None:
    """Note a refusal; a body that is not OpenAI's error is a disorder."""
    got.end = "refused"
    try:
        error = json.loads(body)["error"]
        got.code = error["code"] or error["type"]
    except (ValueError, KeyError, TypeError):
        got.disorder = f"no error body: {body[:80]!r}"


async def _read_stream(got: Got, response: aiohttp.ClientResponse) -> None:
    events = Events(got)
    async for event in _events(response.content):
        events.take(event)
        if got.question.leave_after is not None and got.tokens >= got.question.leave_after:
            got.end = "left"
            response.close()
            return
    if got.end != "told":
        got.end = "complete" if got.finished else "clean"


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in content.iter_any():
        *whole, rest = (rest + piece).split(b"\n\n")
        for event in whole:
            yield event
    if rest:
        yield rest


class Events:
    """Reads the events of one stream into what its client got."""

    def __init__(self, got: Got) -> None:
        self._got = got
        self._sequence = 0
        self._reason: str | None = None

    def take(self, event: bytes) -> None:
        """Take one event, without the blank line that ends it."""
        data = b"".join(line[6:] for line in event.splitlines() if line.startswith(b"data: "))
        if not data:
            return
        if self._got.finished or self._got.end == "told":
            self._got.disorder = "events after the last"
        if data == b"[DONE]":
            self._got.finished = self._reason is not None
            return
        value = json.loads(data)
        if self._got.question.endpoint == "chat":
            self._chat(value)
        else:
            self._response(value)

    def _chat(self, chunk: dict[str, Any]) -> None:
        got = self._got
        if error := chunk.get("error"):
            got.end, got.code = "told", error["code"] or error["type"]
            return
        if usage := chunk.get("usage"):
            got.usage = usage["prompt_tokens"], usage["completion_tokens"]
        for choice in chunk["choices"]:
            self._reason = choice["finish_reason"] or self._reason
            self._say(choice["delta"].get("reasoning") or "", choice["delta"].get("content") or "")

    def _response(self, event: dict[str, Any]) -> None:
        got, kind = self._got, event["type"]
        if event["sequence_number"] != self._sequence:
            got.disorder = f"event {event['sequence_number']} in place of {self._sequence}"
        self._sequence = event["sequence_number"] + 1
        match kind:
            case "response.reasoning_text.delta":
                self._say(event["delta"], "")
            case "response.output_text.delta":
                self._say("", event["delta"])
            case "response.completed":
                got.finished = True
                got.usage = _response_usage(event["response"])
            case "response.failed":
                got.end, got.code = "told", event["response"]["error"]["code"]

    def _say(self, reasoning: str, answer: str) -> None:
        self._got.reasoning += reasoning
        self._got.answer += answer
        self._got.tokens += bool(reasoning) + bool(answer)


def _read_whole(got: Got, value: dict[str, Any]) -> None:
    if got.question.endpoint == "chat":
        message = value["choices"][0]["message"]
        got.reasoning, got.answer = message.get("reasoning") or "", message["content"] or ""
        got.usage = value["usage"]["prompt_tokens"], value["usage"]["completion_tokens"]
    else:
        parts = list(_parts(value))
        got.reasoning = "".join(text for kind, text in parts if kind == "reasoning_text")
        got.answer = "".join(text for kind, text in parts if kind == "output_text")
        got.usage = _response_usage(value)
    got.end = "complete"


def _parts(response: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for item in response["output"]:
        for part in item.get("content") or ():
            yield part["type"], part["text"]


def _response_usage(response: dict[str, Any]) -> tuple[int, int]:
    return response["usage"]["input_tokens"], response["usage"]["output_tokens"]
