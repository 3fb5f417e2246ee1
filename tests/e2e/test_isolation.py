"""The prefix caches of two tenants on one real engine."""

import uuid
from typing import Any

import pytest

from tests.conftest import Demo

pytestmark = pytest.mark.e2e

WORDS = "the replica keeps what it has read of a prompt so that nobody has to read it twice " * 30
OPENING_TOKENS = 128
"""More than the tokens that every prompt of a tenant opens with, which its earlier requests have cached."""


def cached_tokens(demo: Demo, key: str, prompt: str, api: str) -> int:
    """Return how many of a prompt's tokens the engine had in its cache."""
    client = demo.client(key)
    if api == "chat":
        chat: Any = client.chat.completions.create(
            model="gpt-oss-20b", messages=[{"role": "user", "content": prompt}], reasoning_effort="low"
        )
        return int(chat.usage.prompt_tokens_details.cached_tokens)
    response: Any = client.responses.create(model="gpt-oss-20b", input=prompt, reasoning={"effort": "low"})
    return int(response.usage.input_tokens_details.cached_tokens)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_no_tenant_reads_anothers_cache(demo: Demo, api: str) -> None:
    """A tenant's repeated prompt is cached; the same prompt of another tenant is not, until it repeats it."""
    prompt = f"{uuid.uuid4()} {WORDS}"
    first, again = (cached_tokens(demo, demo.key, prompt, api) for _ in range(2))
    other, other_again = (cached_tokens(demo, demo.research_key, prompt, api) for _ in range(2))
    assert again > 2 * OPENING_TOKENS > OPENING_TOKENS > first
    assert other_again > 2 * OPENING_TOKENS > OPENING_TOKENS > other
