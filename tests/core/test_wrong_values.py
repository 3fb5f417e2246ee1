"""Facts about wrong values: each gets 400 in OpenAI's words, which name the place."""

from typing import Any

import pytest

from cluster.core.request import Endpoint
from tests.core.wrong import Row, check, row

SCALARS: list[Row] = [
    row("no-model", "chat", {"model": None}, "model", "missing_required_parameter"),
    row("model-number", "chat", {"model": 5}, "model", "invalid_type"),
    row("temperature-high", "chat", {"temperature": 3}, "temperature", "decimal_above_max_value"),
    row("temperature-low", "chat", {"temperature": -0.1}, "temperature", "decimal_below_min_value"),
    row("temperature-word", "chat", {"temperature": "hot"}, "temperature", "invalid_type"),
    row("temperature-boolean", "responses", {"temperature": True}, "temperature", "invalid_type"),
    row("top-p-zero", "chat", {"top_p": 0}, "top_p", "decimal_below_min_value"),
    row("top-p-high", "responses", {"top_p": 1.01}, "top_p", "decimal_above_max_value"),
    row("penalty-high", "chat", {"frequency_penalty": 9}, "frequency_penalty", "decimal_above_max_value"),
    row("penalty-low", "chat", {"presence_penalty": -9}, "presence_penalty", "decimal_below_min_value"),
    row("max-tokens-negative", "chat", {"max_tokens": -678}, "max_tokens", "integer_below_min_value"),
    row(
        "max-tokens-zero",
        "chat",
        {"max_completion_tokens": 0},
        "max_completion_tokens",
        "integer_below_min_value",
    ),
    row(
        "max-tokens-huge",
        "responses",
        {"max_output_tokens": 2**63},
        "max_output_tokens",
        "integer_above_max_value",
    ),
    row(
        "budget-small",
        "chat",
        {"thinking_token_budget": 15},
        "thinking_token_budget",
        "integer_below_min_value",
    ),
    row(
        "budget-none",
        "responses",
        {"thinking_token_budget": -1},
        "thinking_token_budget",
        "integer_below_min_value",
    ),
    row(
        "budget-string", "responses", {"thinking_token_budget": "64"}, "thinking_token_budget", "invalid_type"
    ),
    row("max-tokens-string", "chat", {"max_tokens": "16"}, "max_tokens", "invalid_type"),
    row("max-tokens-boolean", "chat", {"max_tokens": True}, "max_tokens", "invalid_type"),
    row("max-tokens-decimal", "chat", {"max_tokens": 1000.0}, "max_tokens", "invalid_type"),
    row(
        "max-tokens-twice",
        "chat",
        {"max_tokens": 5, "max_completion_tokens": 5},
        "max_tokens",
        "invalid_parameter_combination",
    ),
    row("n-zero", "chat", {"n": 0}, "n", "integer_below_min_value"),
    row("n-billion", "chat", {"n": 10**9}, "n", "integer_above_max_value"),
    row("seed-decimal", "chat", {"seed": 1.5}, "seed", "invalid_type"),
    row("seed-above-int64", "chat", {"seed": 2**63}, "seed", "integer_above_max_value"),
    row("stream-word", "chat", {"stream": "yes"}, "stream", "invalid_type"),
    row("stream-number", "responses", {"stream": 1}, "stream", "invalid_type"),
    row("stream-options-alone", "chat", {"stream_options": {"include_usage": True}}, "stream_options", None),
    row(
        "stream-options-unknown",
        "chat",
        {"stream": True, "stream_options": {"continuous_usage_stats": True}},
        "stream_options.continuous_usage_stats",
        "unknown_parameter",
    ),
    row(
        "stream-options-usage-word",
        "chat",
        {"stream": True, "stream_options": {"include_usage": "yes"}},
        "stream_options.include_usage",
        "invalid_type",
    ),
    row(
        "usage-of-responses",
        "responses",
        {"stream": True, "stream_options": {"include_usage": True}},
        "stream_options.include_usage",
        "unknown_parameter",
    ),
    row("effort-unknown", "chat", {"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
    row("effort-case", "chat", {"reasoning_effort": "High"}, "reasoning_effort", "invalid_value"),
    row("effort-number", "chat", {"reasoning_effort": 3}, "reasoning_effort", "invalid_type"),
    row(
        "effort-unknown", "responses", {"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"
    ),
    row("reasoning-word", "responses", {"reasoning": "high"}, "reasoning", "invalid_type"),
    row(
        "reasoning-unknown",
        "responses",
        {"reasoning": {"budget": 1}},
        "reasoning.budget",
        "unknown_parameter",
    ),
    row("tier-unknown", "chat", {"service_tier": "gold"}, "service_tier", "invalid_value"),
    row("user-long", "chat", {"user": "u" * 1000000}, "user", "string_above_max_length"),
    row(
        "metadata-pairs",
        "chat",
        {"metadata": {str(n): "v" for n in range(17)}},
        "metadata",
        "object_above_max_properties",
    ),
    row("metadata-number", "responses", {"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    row(
        "metadata-long-key",
        "responses",
        {"metadata": {"k" * 65: "v"}},
        "metadata key",
        "string_above_max_length",
    ),
    row("include-unknown", "responses", {"include": ["everything"]}, "include[0]", "invalid_value"),
    row(
        "text-format-unknown",
        "responses",
        {"text": {"format": {"type": "xml"}}},
        "text.format.type",
        "invalid_value",
    ),
]


@pytest.mark.parametrize(("endpoint", "fields", "param", "code"), [*SCALARS])
def test_wrong_values(endpoint: Endpoint, fields: dict[str, Any], param: str, code: str | None) -> None:
    """The request is refused with the place of the mistake, and a good one succeeds after it."""
    check(endpoint, fields, param, code)
