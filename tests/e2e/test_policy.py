"""What the gateway refuses, hides and tells, against the real engine."""

import re
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Demo

pytestmark = pytest.mark.e2e

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)?(\d+ms)?")


def post(demo: Demo, path: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """Send ``body`` as it is, without the client's own checks."""
    headers = {"authorization": f"Bearer {key or demo.key}"}
    return httpx.post(f"{demo.base_url}/{path}", json=body, headers=headers, timeout=120)


def test_a_wrong_key_is_an_authentication_error(demo: Demo) -> None:
    """A wrong key raises ``AuthenticationError`` with OpenAI's body and code."""
    with pytest.raises(openai.AuthenticationError) as caught:
        demo.client("gos_live_wrong").chat.completions.create(model="gpt-oss-120b", messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_model_is_not_found(demo: Demo) -> None:
    """An unknown model raises ``NotFoundError`` with OpenAI's code."""
    with pytest.raises(openai.NotFoundError) as caught:
        demo.client().chat.completions.create(model="gpt-5", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert caught.value.type == "invalid_request_error"


BAD: list[Any] = [
    pytest.param({"temperature": 3}, "temperature", id="temperature above 2"),
    pytest.param({"max_completion_tokens": 0}, "max_completion_tokens", id="no output tokens"),
    pytest.param({"ignore_eos": True}, "ignore_eos", id="an engine field that breaks Harmony"),
    pytest.param({"priority": -1}, "priority", id="the engine's priority"),
    pytest.param({"thinking_token_budget": 15}, "thinking_token_budget", id="too small a budget"),
    pytest.param({"reasoning_effort": "enormous"}, "reasoning_effort", id="unknown effort"),
    pytest.param(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
                }
            ]
        },
        "messages",
        id="an image",
    ),
]


@pytest.mark.parametrize(("change", "param"), BAD)
def test_a_bad_parameter_is_a_bad_request(demo: Demo, change: dict[str, Any], param: str) -> None:
    """A bad parameter raises ``BadRequestError`` that names it, and the next good request is answered."""
    body = {"model": "gpt-oss-120b", "messages": HELLO, **change}
    with pytest.raises(openai.BadRequestError) as caught:
        demo.client().post("/chat/completions", body=body, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert param in (caught.value.param or caught.value.message)
    good = demo.client().chat.completions.create(model="gpt-oss-20b", messages=HELLO, reasoning_effort="low")
    assert good.choices[0].message.content


def test_the_chain_of_thought_is_hidden_in_chat(demo: Demo) -> None:
    """A tenant without the right sees no reasoning in a chat answer; one with it does."""
    body = {"model": "gpt-oss-120b", "messages": HELLO}
    hidden = post(demo, "chat/completions", body).json()["choices"][0]["message"]
    shown = post(demo, "chat/completions", body, demo.research_key).json()["choices"][0]["message"]
    assert "reasoning" not in hidden or not hidden["reasoning"]
    assert "reasoning_content" not in hidden or not hidden["reasoning_content"]
    assert shown["reasoning"]


def test_the_chain_of_thought_is_hidden_in_a_chat_stream(demo: Demo) -> None:
    """No event of a stream carries reasoning for a tenant without the right."""
    body = {"model": "gpt-oss-120b", "messages": HELLO, "stream": True}
    hidden = post(demo, "chat/completions", body).text
    shown = post(demo, "chat/completions", body, demo.research_key).text
    assert "reasoning" not in hidden
    assert '"reasoning":"' in shown.replace(" ", "")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_chain_of_thought_is_hidden_in_responses(demo: Demo, stream: bool) -> None:
    """Responses carry no reasoning item or event for a tenant without the right."""
    body = {"model": "gpt-oss-120b", "input": "Hello there", "stream": stream}
    hidden = post(demo, "responses", body).text
    shown = post(demo, "responses", body, demo.research_key).text
    assert "reasoning_text" not in hidden
    assert "reasoning_text" in shown


def test_reasoning_is_counted_where_it_is_hidden(demo: Demo) -> None:
    """Hidden reasoning is billed: the usage tells its tokens all the same."""
    body = {"model": "gpt-oss-120b", "messages": HELLO, "reasoning_effort": "high"}
    usage = post(demo, "chat/completions", body).json()["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] > 30


@pytest.mark.parametrize(
    ("asked", "served", "reason"),
    [
        ("low", "low", "requested"),
        (None, "medium", "default"),
        ("xhigh", "high", "mapped"),
        ("minimal", "low", "mapped"),
    ],
)
def test_the_effort_served_is_told(demo: Demo, asked: str | None, served: str, reason: str) -> None:
    """``x-effort`` tells the effort that a request ran at, ``x-effort-reason`` why."""
    body = {"model": "gpt-oss-20b", "messages": HELLO, **({"reasoning_effort": asked} if asked else {})}
    answer = post(demo, "chat/completions", body)
    assert answer.status_code == 200
    assert answer.headers["x-effort"] == served
    assert answer.headers["x-effort-reason"] == reason


def test_an_alias_is_served_by_effort(demo: Demo) -> None:
    """The alias ``gpt-oss`` is the small model at low effort and the large one at high."""
    for effort, model in (("low", "gpt-oss-20b"), ("high", "gpt-oss-120b")):
        body = {"model": "gpt-oss", "messages": HELLO, "reasoning_effort": effort}
        assert post(demo, "chat/completions", body).headers["x-served-model"] == model


def test_limits_and_request_id_are_told(demo: Demo) -> None:
    """Every answer tells its id, its time and what is left of the limits, in OpenAI's forms."""
    headers = post(demo, "chat/completions", {"model": "gpt-oss-20b", "messages": HELLO}).headers
    assert headers["x-request-id"]
    assert int(headers["openai-processing-ms"]) > 0
    for kind in ("requests", "tokens"):
        limit = int(headers[f"x-ratelimit-limit-{kind}"])
        assert 0 <= int(headers[f"x-ratelimit-remaining-{kind}"]) < limit
        assert DURATION.fullmatch(headers[f"x-ratelimit-reset-{kind}"])


def test_engine_headers_stay_inside(demo: Demo) -> None:
    """What a replica tells the gateway never reaches a client."""
    answer = post(demo, "chat/completions", {"model": "gpt-oss-20b", "messages": HELLO, "stream": True})
    assert not [name for name in answer.headers if name.startswith("x-engine")]
    assert ": usage" not in answer.text


def test_a_replica_answers_only_the_gateway(demo: Demo) -> None:
    """Without the engine key a replica serves nothing, vLLM's unguarded routes included."""
    for path in ("v1/chat/completions", "v1/models", "invocations", "tokenize", "metrics"):
        url = f"{demo.serve_url}/gpt-oss-120b/{path}"
        assert httpx.post(url, json={}, timeout=30).status_code in {401, 404}, path


def test_metrics_tell_tokens_by_effort(demo: Demo) -> None:
    """The gateway's metrics count reasoning and answer tokens apart, by model and effort."""
    post(demo, "chat/completions", {"model": "gpt-oss-20b", "messages": HELLO, "reasoning_effort": "low"})
    metrics = httpx.get(f"{demo.admin_url}/metrics", timeout=30).text
    for kind in ("prompt", "reasoning", "answer"):
        pattern = rf'gptoss_tokens_total{{[^}}]*effort="low"[^}}]*kind="{kind}"[^}}]*}} [1-9]'
        assert re.search(pattern, metrics), kind
