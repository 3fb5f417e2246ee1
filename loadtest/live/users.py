"""The users as Locust runs them. Importing this module patches the process for gevent: Locust's alone may."""

import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import gevent
import orjson
from gevent.pool import Pool
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse
from locust import User, task
from locust.exception import CatchResponseError

from loadtest.live.dialogue import Dialogue
from loadtest.live.plan import Kind, Plan
from loadtest.live.records import Outcome, Record, Timeline
from loadtest.live.sse import SEPARATOR, Reader, refusal

_STALL_S = 120.0
"""A stream that says nothing for so long, not even a comment, has failed."""
_MOST_WAIT_S = 120.0
"""Longest that ``retry-after`` is followed."""
_MOST_OPEN = 4096
"""Requests that one user of an open loop may have under way."""
_BLOCK_BYTES = 16384


class _LeftError(Exception):
    """The user's patience ended."""


class _EndedError(Exception):
    """The request ended without a whole answer."""

    def __init__(self, outcome: Outcome, reason: str, wait_s: float = 0.0) -> None:
        self.outcome, self.reason, self.wait_s = outcome, reason, wait_s


@dataclass(frozen=True, slots=True)
class Assignment:
    """What every user of a process knows."""

    plan: Plan
    key: str
    """The API key."""
    took: Callable[[Record], None]
    """Takes each record."""


class Asker(User):
    """A user that asks the questions of a plan over server-sent events; see the three kinds below."""

    abstract = True
    kind: ClassVar[Kind]
    assignment: ClassVar[Assignment]
    _numbers: ClassVar["count[int]"] = count()

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        plan = self.assignment.plan
        worker = getattr(environment.runner, "worker_index", 0)
        # the order in which users start is the same for the same seed, shape and number of workers
        self._rng = random.Random(f"{plan.seed} {worker} {self.kind} {next(self._numbers)}")  # noqa: S311
        self._dialogue: Dialogue | None = None
        self._pool = Pool(_MOST_OPEN)
        self._wait_s = 0.0
        self._arrived = False
        base_url = str(self.host)
        self._base = urlsplit(base_url).path.rstrip("/")
        self._client = HTTPClient.from_url(
            base_url,
            concurrency=_MOST_OPEN if plan.pace.kind == "open" else 1,
            block_size=_BLOCK_BYTES,
            network_timeout=_STALL_S,
            connection_timeout=10.0,
            ssl_context_factory=_trust(plan.ca_file),
            headers={"authorization": f"Bearer {self.assignment.key}", "content-type": "application/json"},
        )

    def wait_time(self) -> float:
        """Return the seconds until the next question."""
        wait_s, self._wait_s = self._wait_s, 0.0
        return wait_s + self._rng.expovariate(1 / self.assignment.plan.pace.mean_s)

    def on_stop(self) -> None:
        """Let what is under way end, for as long as the plan says."""
        self._pool.join(timeout=self.assignment.plan.drain_s)
        self._pool.kill()
        self._client.close()

    @task
    def turn(self) -> None:
        """Ask one question: the next of the conversation, or one of its own in an open loop."""
        plan = self.assignment.plan
        if not self._arrived:  # users who start together do not ask together
            self._arrived = True
            return
        if plan.pace.kind == "open":
            self._pool.spawn(self._ask, Dialogue(plan, self.kind, self._rng, turns=1))
            return
        if self._dialogue is None or self._dialogue.over:
            self._dialogue = Dialogue(plan, self.kind, self._rng)
        self._ask(self._dialogue)

    def _ask(self, dialogue: Dialogue) -> None:
        body, reader, asked = orjson.dumps(dialogue.body()), dialogue.reader(), _Asked(self, dialogue)
        outcome: Outcome = "ok"
        reason = ""
        try:
            self._exchange(asked, body, reader)
            dialogue.heard(reader.answer)
        except _EndedError as ended:
            outcome, reason, self._wait_s = ended.outcome, ended.reason, ended.wait_s
        except _LeftError:
            outcome, reason = "left", "no sign of an answer in time"
        except (OSError, HTTPParseError, ValueError) as error:
            # an answer that breaks off, or is no HTTP or no JSON; its words may hold an answer's
            outcome, reason = "failed", type(error).__name__
        except gevent.GreenletExit:
            asked.tell("unfinished", "the load test ended", reader)
            raise
        if outcome != "ok":
            dialogue.end()
        asked.tell(outcome, reason, reader)

    def _exchange(self, asked: "_Asked", body: bytes, reader: Reader) -> None:
        plan = self.assignment.plan
        patience = gevent.Timeout(plan.patience_s[asked.dialogue.effort], _LeftError)
        patience.start()
        try:
            response = self._client.request("POST", self._base + asked.dialogue.path, body=body)
            asked.status, asked.request_id = response.status_code, str(response.get("x-request-id") or "")
            if response.status_code != 200:
                raise self._refused(response)
            try:
                _read(response, reader, asked.timeline, patience)
            finally:
                response.release()
        finally:
            patience.close()
        answer = reader.answer
        if answer.error:
            raise _EndedError(_kind_of_error(answer.error), answer.error)
        if not answer.complete:
            raise _EndedError("failed", "a stream without its end")

    def _refused(self, response: HTTPSocketPoolResponse) -> _EndedError:
        status, wait = response.status_code, str(response.get("retry-after") or "")
        reason = refusal(response.read(), status)
        honoured = self.assignment.plan.honour_retry_after and wait.isdigit()
        wait_s = min(float(wait), _MOST_WAIT_S) if honoured else 0.0
        return _EndedError("refused" if status in (429, 503) else "failed", reason, wait_s)


def _read(
    response: HTTPSocketPoolResponse, reader: Reader, timeline: Timeline, patience: gevent.Timeout
) -> None:
    """Read a stream to its end, each event in the moment it comes."""
    clock = time.perf_counter
    while raw := response.readline(SEPARATOR):
        now_s = clock()
        timeline.see(reader.event(raw), now_s)
        if patience.pending and timeline.ttft_s is not None:
            patience.cancel()


_REFUSALS = {"server_is_overloaded", "deadline_exceeded", "rate_limit_exceeded", "insufficient_quota"}


def _kind_of_error(code: str) -> Outcome:
    """Return what an error event means: once a stream has begun, it is the only way to refuse."""
    return "refused" if code in _REFUSALS else "failed"


class _Asked:
    """One request under way."""

    def __init__(self, user: Asker, dialogue: Dialogue) -> None:
        self._user, self.dialogue = user, dialogue
        self._turn = dialogue.turn
        self.status, self.request_id = 0, ""
        self._at_s, self._sent_s = time.time(), time.perf_counter()
        self.timeline = Timeline(self._sent_s)

    def tell(self, outcome: Outcome, reason: str, reader: Reader) -> None:
        """Hand the record on, and tell Locust."""
        answer, timeline = reader.answer, self.timeline
        record = Record(
            at_s=self._at_s,
            kind=self._user.kind,
            effort=self.dialogue.effort,
            turn=self._turn,
            users=self._user.environment.runner.user_count,
            outcome=outcome,
            reason=reason,
            status=self.status,
            request_id=self.request_id,
            fingerprint=answer.fingerprint,
            ttft_s=timeline.ttft_s,
            answer_s=timeline.answer_s,
            e2e_s=time.perf_counter() - self._sent_s,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
            reasoning_tokens=answer.reasoning_tokens,
            chunks=timeline.chunks,
            gap_sum_s=timeline.gap_sum_s,
            gaps=dict(timeline.gaps),
        )
        self._user.assignment.took(record)
        if outcome == "unfinished":
            return
        self._user.environment.events.request.fire(
            request_type="POST",
            name=f"{self.dialogue.path} {record.effort}",
            response_time=record.e2e_s * 1000,
            response_length=0,
            exception=None if outcome == "ok" else CatchResponseError(f"{outcome}: {reason}"),
            context={},
        )


class ChatUser(Asker):
    """Asks chat completions."""

    kind = "chat"


class ResponsesUser(Asker):
    """Asks the Responses API."""

    kind = "responses"


class ToolsUser(Asker):
    """Offers a function with chat completions, and sends its result back when the model calls it."""

    kind = "tools"


USERS: tuple[type[Asker], ...] = (ChatUser, ResponsesUser, ToolsUser)


def _trust(ca_file: Path | None) -> Callable[[], ssl.SSLContext]:
    """Return what makes the TLS contexts: the target's certificate is always checked."""
    return lambda: ssl.create_default_context(cafile=ca_file)
