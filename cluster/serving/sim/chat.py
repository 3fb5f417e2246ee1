"""``/v1/chat/completions`` as vLLM 0.29 writes it, to the key and to which fields are null or absent."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cluster.serving.sim.errors import EngineError
from cluster.serving.sim.job import Job
from cluster.serving.sim.text import CALL_TOKEN, Generation, Token
from cluster.serving.sim.wire import DONE, Envelope, Tally, data, fresh

FINGERPRINT = "vllm-0.29.0-simulated"


def answer(job: Job, generations: Sequence[Generation], tally: Tally, envelope: Envelope) -> dict[str, Any]:
    """Return the body of a whole answer."""
    return {
        "id": envelope.request_id,
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
        "choices": [_choice(job, index, generation) for index, generation in enumerate(generations)],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": _usage(tally, {"multimodal_tokens": None}),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _usage(tally: Tally, nulls: Mapping[str, None] = MappingProxyType({})) -> dict[str, Any]:
    """Return the usage; ``nulls`` are the prompt's details that only a whole answer spells out."""
    return {
        "prompt_tokens": tally.prompt,
        "total_tokens": tally.prompt + tally.total,
        "completion_tokens": tally.total,
        "prompt_tokens_details": {"cached_tokens": 0, "created_cache_tokens": tally.prompt, **nulls},
        "completion_tokens_details": {"reasoning_tokens": tally.reasoning},
    }


def _choice(job: Job, index: int, generation: Generation) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message(job, generation),
        "logprobs": None,
        "finish_reason": finish_reason(job, generation),
        "stop_reason": stop_reason(generation),
        "token_ids": None,
        "routed_experts": None,
    }


def _message(job: Job, generation: Generation) -> dict[str, Any]:
    content: str | None = generation.text("answer") or None
    if job.named or job.tool_choice == "required":
        content = content or ""
    calls = {"tool_calls": [_call(generation)]} if generation.called else {}
    return {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        **calls,
        "reasoning": (generation.text("reasoning") or None) if job.include_reasoning else None,
    }


def _call(generation: Generation) -> dict[str, Any]:
    function = {"name": generation.call, "arguments": generation.text("call")}
    return {"id": fresh("chatcmpl-tool-"), "type": "function", "function": function}


def finish_reason(job: Job, generation: Generation) -> str:
    """Return why a choice ended; a named call ends with ``stop``, as OpenAI's does."""
    return "tool_calls" if generation.called and not job.named else generation.finish


def stop_reason(generation: Generation) -> int | None:
    """Return the stop token that vLLM names: that of a call, none for a plain end."""
    return CALL_TOKEN if generation.called and generation.finish == "stop" else None


class ChatStream:
    """The SSE events of one streamed chat completion."""

    def __init__(self, job: Job, generations: Sequence[Generation], tally: Tally, envelope: Envelope) -> None:
        self._job, self._generations, self._tally = job, generations, tally
        self._head = {
            "id": envelope.request_id,
            "object": "chat.completion.chunk",
            "created": envelope.created,
            "model": envelope.model,
        }

    def opened(self) -> bytes:
        """Return nothing: vLLM sends the headers and then waits for the first token."""
        return b""

    def started(self) -> bytes:
        """Return one role chunk for each choice."""
        delta = {"role": "assistant", "content": ""}
        prompt = {"prompt_token_ids": None, "prompt_text": None}
        return b"".join(
            self._event([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}], **prompt)
            for index in range(len(self._generations))
        )

    def token(self, choice: int, token: Token, *, last: bool) -> bytes:
        """Return the chunk of one token; the last one always has a chunk, with the finish reason."""
        delta = self._delta(choice, token)
        if not delta and not last:
            return b""
        generation = self._generations[choice]
        if last and generation.finish == "abort" and delta:  # which no token goes with
            return self._chunk(choice, delta, last=False) + self._chunk(choice, {}, last=True)
        return self._chunk(choice, delta, last=last)

    def _chunk(self, choice: int, delta: dict[str, Any], *, last: bool) -> bytes:
        generation = self._generations[choice]
        finish = {"finish_reason": finish_reason(self._job, generation) if last else None}
        stop = {"stop_reason": stop_reason(generation)} if last else {}
        chunk = {"index": choice, "delta": delta, "logprobs": None, **finish, **stop, "token_ids": None}
        # The fingerprint stands once in a stream: here, unless the usage chunk will carry it.
        marked = last and not self._job.include_usage
        return self._event([chunk], **({"system_fingerprint": FINGERPRINT} if marked else {}))

    def _delta(self, choice: int, token: Token) -> dict[str, Any]:
        hidden = {} if self._job.include_reasoning else {"reasoning": None}
        match token.kind:
            case "reasoning":
                return {} if hidden else {"reasoning": token.text}
            case "answer":
                return {"content": token.text, **hidden}
            case "call":
                return {**hidden, "tool_calls": [self._call_delta(choice, token)]}
            case "control":
                return {}

    def _call_delta(self, choice: int, token: Token) -> dict[str, Any]:
        if token.text:
            return {"index": 0, "function": {"arguments": token.text}}
        function = {"name": self._generations[choice].call, "arguments": ""}
        return {"id": fresh("chatcmpl-tool-"), "type": "function", "index": 0, "function": function}

    def ended(self) -> bytes:
        """Return the usage chunk, when it was asked for, and the end mark."""
        if not self._job.include_usage:
            return DONE
        return self._event([], usage=_usage(self._tally), system_fingerprint=FINGERPRINT) + DONE

    def failed(self, error: EngineError) -> bytes:
        """Return the error event and the end mark, which vLLM sends even then."""
        return data(error.body()) + DONE

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return data({**self._head, "choices": choices, **more})
