"""What the mock engine says: vLLM 0.29's chat answers, rendered once and sent as they are.

The forms are those of the simulated engine (``cluster/serving/sim/chat.py``), which tests hold to real vLLM.
Each token of a stream is its sequence number, so that a client can tell a lost, doubled or reordered one.
"""

from dataclasses import dataclass
from functools import lru_cache

import orjson

from cluster.core.engine import (
    LOAD_HEADER,
    REPLICA_HEADER,
    USAGE_COMMENT_EVERY_S,
    EngineLoad,
    StreamUsage,
    render_load,
    render_usage,
)

MODEL = "gpt-oss-120b"
PROMPT_TOKENS = 120
ANSWER_TOKENS = 100
_CREATED = 1_790_000_000
_ID = "chatcmpl-0123456789abcdef"
_ENGINE_HEADERS = (
    f"{REPLICA_HEADER}: mock-1\r\n{LOAD_HEADER}: {render_load(EngineLoad(64, 0, 0.5, 8192))}\r\n"
).encode()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    + _ENGINE_HEADERS
    + b"\r\n"
)
STREAM_END = b"0\r\n\r\n"


def json_response(value: object, *, status: bytes = b"200 OK") -> bytes:
    """Return a whole HTTP response with ``value`` as JSON."""
    body = orjson.dumps(value)
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(body))
    return head + _ENGINE_HEADERS + b"\r\n" + body


def _usage(answer: int) -> dict[str, object]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + answer,
        "completion_tokens": answer,
        "prompt_tokens_details": {"cached_tokens": 0, "created_cache_tokens": PROMPT_TOKENS},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


WHOLE = json_response(
    {
        "id": _ID,
        "object": "chat.completion",
        "created": _CREATED,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": " ".join(map(str, range(ANSWER_TOKENS))),
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": "vllm-0.29.0-mock",
        "usage": _usage(ANSWER_TOKENS),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }
)
"""A whole answer of `ANSWER_TOKENS` tokens."""


@dataclass(frozen=True, slots=True)
class Script:
    """The HTTP chunks of one kind of stream: the first, one for each token, and the last."""

    tokens: int
    interval_s: float
    reasoning_hidden: bool
    """Whether each delta spells out ``"reasoning":null``, as vLLM does for ``include_reasoning: false``."""

    def opening(self) -> bytes:
        """Return the head and the role's event."""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        return STREAM_HEAD + _chunk(_event([choice], prompt_token_ids=None, prompt_text=None))

    def token(self, number: int) -> bytes:
        """Return the event of token ``number``, and the usage comment when one is due."""
        every = max(round(USAGE_COMMENT_EVERY_S / self.interval_s), 1)
        comment = b""
        if number and number % every == 0:
            comment = _chunk(render_usage(StreamUsage(PROMPT_TOKENS, 0, number)))
        return _chunk(_token_event(number, self.reasoning_hidden)) + comment

    def closing(self) -> bytes:
        """Return the finish, the usage, the end mark and the end of the body."""
        finish = {
            "index": 0,
            "delta": {},
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": None,
            "token_ids": None,
        }
        usage = _event([], usage=_usage(self.tokens), system_fingerprint="vllm-0.29.0-mock")
        return _chunk(_event([finish])) + _chunk(usage + b"data: [DONE]\n\n") + STREAM_END


@lru_cache(maxsize=8)
def script(tokens: int, interval_s: float, reasoning_hidden: bool) -> tuple[bytes, ...]:
    """Return all writes of a stream in order; streams of one kind share them."""
    plan = Script(tokens, interval_s, reasoning_hidden)
    return (plan.opening(), *(plan.token(number) for number in range(tokens)), plan.closing())


def _token_event(number: int, reasoning_hidden: bool) -> bytes:
    hidden = {"reasoning": None} if reasoning_hidden else {}
    delta = {"content": f" {number}", **hidden}
    return _event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": None}])


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    head = {"id": _ID, "object": "chat.completion.chunk", "created": _CREATED, "model": MODEL}
    return b"data: %b\n\n" % orjson.dumps({**head, "choices": choices, **more})


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
