"""Facts about authentication by header."""

import logging
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import pytest
from starlette.types import Scope

from cluster.core.addresses import Address
from cluster.core.guessing import BURST, EVERY_S
from cluster.gateway import auth
from cluster.gateway.auth import Authenticator
from cluster.gateway.http_errors import NotAuthenticated, Overloaded, TooManyFailures
from cluster.gateway.ports import Caller, KeyStore
from cluster.settings import RateLimits

TOKEN = "gos_live_abc"
CALLER = Caller(
    tenant="ads", key_id="k", models=None, max_effort="high", see_reasoning=False, limits=(RateLimits(),)
)


class OneKey:
    """A key store that knows one token and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ready = True

    def find(self, token: str) -> Caller | None:
        """Return the caller of the one token."""
        self.asked.append(token)
        return CALLER if token == TOKEN else None

    def can_judge(self, _token: str) -> bool:
        """Whether keys are loaded."""
        return self.ready


def authenticate(headers: Iterable[tuple[bytes, bytes]], keys: KeyStore) -> Caller:
    """Authenticate one request."""
    return Authenticator(keys, lambda _scope: None, now=lambda: 0.0)({"headers": headers})


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
    with pytest.raises(NotAuthenticated) as caught:
        authenticate([(b"authorization", value) for value in values], keys)
    assert vars(caught.value) == vars(NotAuthenticated())
    assert len(keys.asked) == 1
    assert caplog.records == []


def test_only_the_unknown_reaches_the_store_as_it_is() -> None:
    """A malformed header is looked up as the empty token, so that it costs what a wrong key costs."""
    keys = OneKey()
    for values in ([], [b"Basic x"], [b"Bearer " + b"a" * 2**20]):
        with pytest.raises(NotAuthenticated):
            authenticate([(b"authorization", value) for value in values], keys)
    assert keys.asked == ["", "", ""]


def test_other_places_do_not_count() -> None:
    """A key in another header is not a key."""
    with pytest.raises(NotAuthenticated):
        authenticate([(b"x-api-key", TOKEN.encode()), (b"api-key", TOKEN.encode())], OneKey())


class Guessing:
    """An authenticator whose clock and client address a test sets."""

    def __init__(self) -> None:
        self.keys, self.now_s, self.address = OneKey(), 1000.0, ip_address("203.0.113.7")
        self._authenticate = Authenticator(self.keys, self._address_of, now=lambda: self.now_s)

    def _address_of(self, _scope: Scope) -> Address:
        return self.address

    def send(self, token: str = "guess", *, source: Any = None) -> str:
        """Send a request with this token; return what came of it."""
        self.address = self.address if source is None else ip_address(source)
        try:
            self._authenticate({"headers": [(b"authorization", b"Bearer " + token.encode())]})
        except (NotAuthenticated, TooManyFailures, Overloaded) as failure:
            return type(failure).__name__
        return "good"


FAILED, STOP = "NotAuthenticated", "TooManyFailures"


def test_an_address_that_guesses_is_told_to_stop() -> None:
    """A burst of failures gets its 401; after it only one every few seconds does, for every kind of wrong."""
    world = Guessing()
    assert [world.send() for _ in range(BURST)] == [FAILED] * BURST
    assert [world.send(token) for token in ("guess", "gos_live_abd", "")] == [STOP] * 3
    world.now_s += EVERY_S
    assert [world.send(), world.send()] == [FAILED, STOP]
    world.now_s += BURST * EVERY_S
    assert [world.send() for _ in range(BURST + 1)] == [FAILED] * BURST + [STOP]


def test_a_live_key_works_from_any_address() -> None:
    """A key is never refused for what others behind its address did, and excuses nobody's failures."""
    world = Guessing()
    for _ in range(2 * BURST):
        world.send()
        assert world.send(TOKEN) == "good"
    assert world.send() == STOP


def test_each_address_has_its_own_failures() -> None:
    """Another address is not told to stop; another address of the same IPv6 network is."""
    world = Guessing()
    for source in ("203.0.113.7", "2001:db8::1"):
        for _ in range(BURST):
            world.send(source=source)
        assert world.send() == STOP
    assert world.send(source="203.0.113.8") == FAILED
    assert world.send(source="2001:db8::ffff") == STOP
    assert world.send(source="2001:db8:0:1::1") == FAILED


def test_the_memory_for_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that failed least recently is forgotten; one that goes on guessing is not."""
    monkeypatch.setattr(auth, "MAX_ADDRESSES", 3)
    world = Guessing()
    for _ in range(BURST):
        world.send(source="192.0.2.0")
    for number in range(1, 50):
        assert world.send(source=f"192.0.2.{number}") == FAILED
        assert world.send(source="192.0.2.0") == STOP
    assert len(world._authenticate._full_at_s) == 3


def test_before_keys_are_loaded_nobody_is_wrong() -> None:
    """A gateway that does not know its keys says so, and counts no failure."""
    world = Guessing()
    world.keys.ready = False
    assert {world.send() for _ in range(2 * BURST)} == {"Overloaded"}
    world.keys.ready = True
    assert world.send() == FAILED
