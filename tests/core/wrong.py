"""Wrong requests: how a table row is written, and what each must get."""

from typing import Any

import pytest
from _pytest.mark import ParameterSet

from cluster.core.request import Endpoint
from tests.core.requests import chat, error_of, parsed, response

Row = ParameterSet

OPENINGS = {
    "missing_required_parameter": "Missing required parameter: '{}'.",
    "invalid_type": "Invalid type for '{}': expected ",
    "invalid_value": "Invalid ",
    "unknown_parameter": "Unknown parameter: '{}'.",
    "unsupported_parameter": "Unsupported parameter: '{}' is not supported: ",
    "invalid_parameter_combination": "Setting '{}' and ",
    "integer_below_min_value": "Invalid '{}': integer below minimum value. Expected a value >= ",
    "integer_above_max_value": "Invalid '{}': integer above maximum value. Expected a value <= ",
    "decimal_below_min_value": "Invalid '{}': decimal below minimum value. Expected a value >",
    "decimal_above_max_value": "Invalid '{}': decimal above maximum value. Expected a value <= ",
    "string_above_max_length": "Invalid '{}': string too long. Expected a string with maximum length ",
    "empty_array": "Invalid '{}': empty array. Expected an array with minimum length 1, but got an empty ",
    "array_above_max_length": "Invalid '{}': array too long. Expected an array with maximum length ",
    "object_above_max_properties": "Invalid '{}': too many properties. Expected an object with at most ",
    "invalid_function_parameters": "Invalid schema for function '",
    "invalid_json_schema": "Invalid schema for response_format '",
}
"""How the message of each code begins; the place stands in the braces."""


def row(name: str, endpoint: Endpoint, fields: dict[str, Any], param: str, code: str | None) -> Row:
    """Return one row: fields of a request, and the param and code of the error that they get."""
    return pytest.param(endpoint, fields, param, code, id=f"{endpoint}-{name}")


def check(endpoint: Endpoint, fields: dict[str, Any], param: str, code: str | None) -> None:
    """Check that a request with ``fields`` is refused as it should be, and a good one is not."""
    make = chat if endpoint == "chat" else response
    error = error_of(endpoint, make(**fields))
    assert (error.status, error.param, error.code) == (400, param, code)
    if code is not None:
        assert error.message.startswith(OPENINGS[code].format(param))
    assert len(error.message) < 400
    assert parsed(endpoint, make()).model == "gpt-oss-120b"
