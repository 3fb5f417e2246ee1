"""Facts about authentication by header."""

import logging

import pytest

from cluster.gateway.auth import AuthenticationFailed, authenticate
from cluster.gateway.ports import Caller
from cluster.settings import RateLimits

TOKEN = "gos_live_abc"
CALLER = Caller(
    tenant="ads", key_id="k", models=None, max_effort="high", see_reasoning=False, limits=(RateLimits(),)
)


class OneKey:
    """A key store that knows one token and remembers what it was asked."""

    ready = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, token: str) -> Caller | None:
        """Return the caller of the one token."""
        self.asked.append(token)
        return CALLER if token == TOKEN else None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"Bearer {TOKEN}", id="bearer"),
        pytest.param(f"bearer {TOKEN}", id="lower-case-scheme"),
        pytest.param(f"BEARER   {TOKEN}", id="more-space"),
    ],
)
def test_a_live_key_is_let_in(value: str) -> None:
    """The token of a single bearer header is looked up, whatever the scheme's case."""
    headers = [(b"host", b"x"), (b"authorization", value.encode())]
    assert authenticate(headers, OneKey()) is CALLER


BAD = [
    pytest.param([], id="missing"),
    pytest.param([b""], id="empty"),
    pytest.param([b"Bearer"], id="scheme-alone"),
    pytest.param([b"Bearer "], id="empty-token"),
    pytest.param([b"Basic Z29zOmxpdmU="], id="basic"),
    pytest.param([TOKEN.encode()], id="no-scheme"),
    pytest.param([b"Bearer " + TOKEN.encode()] * 2, id="twice"),
    pytest.param([b"Bearer " + TOKEN.encode(), b"Basic x"], id="two-schemes"),
    pytest.param([f"Bearer {TOKEN} ".encode()], id="trailing-space"),
    pytest.param([f"Bearer {TOKEN}\n".encode()], id="trailing-newline"),
    pytest.param([f"Bearer {TOKEN}, Bearer x".encode()], id="list"),
    pytest.param([f"Bearer {TOKEN}\u200b".encode()], id="zero-width-space"),
    pytest.param(["Bearer gos_live_\uff41bc".encode()], id="full-width-letter"),
    pytest.param([b"Bearer gos_live_\xff"], id="not-utf-8"),
    pytest.param([b"Bearer \x00" + TOKEN.encode()], id="nul"),
    pytest.param([b"Bearer a'; DROP TABLE keys;--"], id="sql"),
    pytest.param([b"Bearer " + b"a" * 2**20], id="one-megabyte"),
    pytest.param([b"Bearer gos_live_abd"], id="unknown"),
]


@pytest.mark.parametrize("values", BAD)
def test_anything_else_fails_alike(values: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong, the failure is the same, one lookup is made, and no part of the header shows."""
    caplog.set_level(logging.DEBUG)
    keys = OneKey()
    with pytest.raises(AuthenticationFailed) as caught:
        authenticate([(b"authorization", value) for value in values], keys)
    assert (str(caught.value), caught.value.code) == (AuthenticationFailed.message, "invalid_api_key")
    assert vars(caught.value) == {}
    assert len(keys.asked) == 1
    assert caplog.records == []


def test_only_the_unknown_reaches_the_store_as_it_is() -> None:
    """A malformed header is looked up as the empty token, so that it costs what a wrong key costs."""
    keys = OneKey()
    for values in ([], [b"Basic x"], [b"Bearer " + b"a" * 2**20]):
        with pytest.raises(AuthenticationFailed):
            authenticate([(b"authorization", value) for value in values], keys)
    assert keys.asked == ["", "", ""]


def test_other_places_do_not_count() -> None:
    """A key in another header is not a key."""
    with pytest.raises(AuthenticationFailed):
        authenticate([(b"x-api-key", TOKEN.encode()), (b"api-key", TOKEN.encode())], OneKey())
