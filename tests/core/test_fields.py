"""Facts about the field tables."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

from cluster.core.fields import CHAT, PARTLY_IGNORED, RESPONSES, Field, Rule
from cluster.core.request import Endpoint
from tests.core.requests import CHAT_TOOL, RESPONSE_TOOL, USER, chat, error_of, parsed, response

BODY = {"chat": chat, "responses": response}
TABLES = {"chat": CHAT, "responses": RESPONSES}
ROWS = [
    pytest.param(endpoint, name, field, id=f"{endpoint}-{name}")
    for endpoint, table in TABLES.items()
    for name, field in table.items()
]

VALID: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "temperature": 0.5,
    "top_p": 1,
    "parallel_tool_calls": True,
    "prompt_cache_key": "thread-1",
    "safety_identifier": "u1",
    "user": "u1",
    "service_tier": "flex",
    "store": True,
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "messages": [USER],
    "max_completion_tokens": 5,
    "max_tokens": 5,
    "n": 2,
    "seed": -7,
    "frequency_penalty": -2,
    "presence_penalty": 2,
    "reasoning_effort": "xhigh",
    "response_format": {"type": "json_object"},
    "tool_choice": "auto",
    "metadata": {"a": "b"},
    "verbosity": "low",
    "prediction": {"type": "content", "content": "x"},
    "input": "Hi",
    "instructions": "Be brief.",
    "max_output_tokens": 5,
    "reasoning": {"effort": "max"},
    "text": {"format": {"type": "json_object"}},
    "include": ["reasoning.encrypted_content"],
    "max_tool_calls": 3,
}
"""A value that asks for something, for every field that is not refused."""


@pytest.mark.parametrize(
    ("table", "parameters"),
    [
        pytest.param(
            CHAT,
            [
                chat_params.CompletionCreateParamsNonStreaming,
                chat_params.CompletionCreateParamsStreaming,
            ],
            id="chat",
        ),
        pytest.param(
            RESPONSES,
            [
                response_params.ResponseCreateParamsNonStreaming,
                response_params.ResponseCreateParamsStreaming,
            ],
            id="responses",
        ),
    ],
)
def test_tables_hold_exactly_openai_fields(table: dict[str, Field], parameters: list[type]) -> None:
    """Every field of the official client's ``create`` has its row, and there is no other row."""
    known = {name for parameter in parameters for name in parameter.__annotations__}
    assert set(table) == known


@pytest.mark.parametrize(("endpoint", "name", "field"), ROWS)
def test_every_field_does_what_its_row_says(endpoint: Endpoint, name: str, field: Field) -> None:
    """A field with a value that asks for something is taken in, named as ignored, or refused by name."""
    assert field.rule in get_args(Rule)
    tools = [CHAT_TOOL if endpoint == "chat" else RESPONSE_TOOL]
    value = tools if name == "tools" else VALID.get(name, {"any": "thing"})
    extra: dict[str, Any] = {"stream": True} if name == "stream_options" else {}
    extra |= {"tools": tools} if name in ("tool_choice", "parallel_tool_calls") else {}
    body = BODY[endpoint](**extra, **{name: value})
    if field.rule == "refused":
        error = error_of(endpoint, body)
        assert error.message == f"Unsupported parameter: '{name}' is not supported: {field.note}."
        assert (error.status, error.param, error.code) == (400, name, "unsupported_parameter")
    elif field.rule == "ignored":
        assert parsed(endpoint, body).ignored == (name,)
        assert name not in parsed(endpoint, body).fields
    else:
        assert name not in parsed(endpoint, body).ignored
        assert (parsed(endpoint, body).fields.get(name) == value) == field.forwarded or name == "text"


@pytest.mark.parametrize(("endpoint", "name", "field"), ROWS)
def test_null_counts_as_absent(endpoint: Endpoint, name: str, field: Field) -> None:
    """A field that is null is as if it were not there: an error only where the field is required."""
    body = BODY[endpoint](**{name: None})
    if name in ("model", "messages", "input"):
        assert error_of(endpoint, body).code == "missing_required_parameter"
    else:
        with_null, without = parsed(endpoint, body), parsed(endpoint, BODY[endpoint]())
        assert replace(with_null, prompt_tokens=0) == replace(without, prompt_tokens=0)


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


def test_partly_ignored_fields_are_honoured_ones() -> None:
    """Only fields that are honoured otherwise have members that are ignored."""
    for name in PARTLY_IGNORED:
        assert {table[name].rule for table in TABLES.values() if name in table} == {"honoured"}


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
    "thinking_token_budget",
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
