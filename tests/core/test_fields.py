"""What all fields have in common, and what is no field: the engine's own."""

from typing import Any

import pytest

from cluster.core.fields import CHAT, RESPONSES
from cluster.core.request import Endpoint
from cluster.core.shapes import Field
from tests.core.requests import chat, error_of, parsed, response

BODY = {"chat": chat, "responses": response}
TABLES = {"chat": CHAT, "responses": RESPONSES}
ROWS = [
    pytest.param(endpoint, name, field, id=f"{endpoint}-{name}")
    for endpoint, table in TABLES.items()
    for name, field in table.items()
]


@pytest.mark.parametrize(("endpoint", "name", "field"), ROWS)
def test_null_counts_as_absent(endpoint: Endpoint, name: str, field: Field) -> None:
    """A field that is null is as if it were not there: an error only where the field is required."""
    body = BODY[endpoint](**{name: None})
    if name in ("model", "messages", "input"):
        assert error_of(endpoint, body).code == "missing_required_parameter"
    else:
        with_null, without = parsed(endpoint, body), parsed(endpoint, BODY[endpoint]())
        assert with_null._replace(prompt_tokens=0) == without._replace(prompt_tokens=0)


@pytest.mark.parametrize(
    ("endpoint", "name", "value"),
    [
        pytest.param(endpoint, name, value, id=f"{endpoint}-{name}")
        for endpoint, table in TABLES.items()
        for name, field in table.items()
        for value in field.harmless
    ],
)
def test_harmless_values_pass_unnamed(endpoint: Endpoint, name: str, value: Any) -> None:
    """A value that asks for what happens anyway is accepted, and is not named as ignored."""
    accepted = parsed(endpoint, BODY[endpoint](**{name: value}))
    assert accepted.ignored == ()
    assert name not in accepted.fields


@pytest.mark.parametrize(
    ("endpoint", "fields", "ignored"),
    [
        pytest.param(
            "responses",
            {"reasoning": {"effort": "low", "summary": "auto"}},
            ("reasoning.summary",),
            id="reasoning-summary",
        ),
        pytest.param("responses", {"text": {"verbosity": "low"}}, ("text.verbosity",), id="verbosity"),
        pytest.param(
            "chat",
            {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": True}},
            ("stream_options.include_obfuscation",),
            id="obfuscation",
        ),
        pytest.param("chat", {"user": "u", "store": True}, ("user", "store"), id="several"),
    ],
)
def test_ignored_parts_are_named(
    endpoint: Endpoint, fields: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    """A member without effect of an honoured field is named with its path."""
    assert parsed(endpoint, BODY[endpoint](**fields)).ignored == ignored


VLLM_ONLY = (
    "ignore_eos",
    "priority",
    "chat_template",
    "chat_template_kwargs",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "kv_transfer_params",
    "prompt_logprobs",
    "min_tokens",
    "allowed_token_ids",
    "bad_words",
    "use_beam_search",
    "truncate_prompt_tokens",
    "cache_salt",
    "session_id",
    "request_id",
    "return_token_ids",
    "return_prompt_text",
    "vllm_xargs",
    "stop_token_ids",
    "top_k",
    "min_p",
    "repetition_penalty",
    "include_reasoning",
    "echo",
    "add_generation_prompt",
    "continue_final_message",
    "documents",
    "mm_processor_kwargs",
    "previous_input_messages",
    "enable_response_messages",
    "best_of",
    "api_base",
    "__proto__",
    "__class__",
)


@pytest.mark.parametrize("name", VLLM_ONLY)
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_engine_fields_are_unknown(endpoint: Endpoint, name: str) -> None:
    """A field of the engine's own, or nobody's, is refused in OpenAI's words, whatever its value."""
    for value in (None, 1):
        error = error_of(endpoint, BODY[endpoint](**{name: value}))
        assert error.message == f"Unrecognized request argument supplied: {name}"
        assert (error.status, error.param, error.code) == (400, name, "unknown_parameter")


def test_several_unknown_fields() -> None:
    """Several unknown fields are named together, the first five of them."""
    error = error_of("chat", chat(**{f"x{index}": 1 for index in range(7)}))
    assert error.message == "Unrecognized request arguments supplied: x0, x1, x2, x3, x4 and 2 more"


def test_a_hostile_name_is_shown_cut_and_clean() -> None:
    """An error repeats at most 64 characters of a field's name, and no control characters."""
    error = error_of("chat", chat(**{"\x1b[31m\r\n" + "a" * 10_000: 1}))
    assert len(error.message) < 120
    assert error.message.isprintable()
