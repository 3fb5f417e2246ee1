"""That time does not tell what was wrong with a key.

Looked at twice. The executed bytecode says exactly whether all wrong keys take one path through our own code;
it cannot see inside C. The clock sees everything, through noise: samples of all kinds are taken in turn, the
slower half is dropped, for noise only adds, and Welch's t decides whether two means are surely closer than
what can be told apart over a network. Both must catch an authenticator that leaks.
"""

import gc
import hmac
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import pytest
from starlette.types import Scope

from cluster.core.keys import ID, LENGTH, RANDOM_BYTES, mint
from cluster.gateway.auth import Authenticator
from cluster.gateway.http_errors import NotAuthenticated
from cluster.gateway.ports import Caller
from cluster.settings import RateLimits
from cluster.stores import admin
from cluster.stores.identity import Identity
from cluster.stores.key_index import KeyIndex
from tests.stores.vaults import MemoryVault

PEPPER = b"p" * 32
KEYS = 32
"""Wrong keys of each kind, so that no one key's place in memory counts for its kind."""
SAMPLES = 1500
"""Samples of each kind in one comparison."""
LEAST_NS = 100.0
"""Least difference that was ever told apart over a local network (Crosby, Wallach and Riedi, 2009)."""
SURE_T = 4.5
"""Welch's t beyond which there is no doubt, as in leakage assessment (TVLA)."""
TRIES = 10
"""Comparisons before two kinds count as different: noise passes, a leak stays."""

Kinds = dict[str, list[str]]
Authenticate = Callable[[Scope], None]


@pytest.fixture(scope="module")
def known() -> tuple[KeyIndex, Kinds]:
    """Return an index of keys, and wrong keys of each kind; all but the last kinds are as long as a key."""
    vault, now = MemoryVault(), datetime.now(UTC)
    index = KeyIndex(PEPPER, defaults=RateLimits(), clock=time.time, origin="vault")
    admin.set_tenant(vault, "ads", now=now)

    def made(**options: Any) -> list[admin.NewSecret]:
        return [admin.create_key(vault, "ads", pepper=PEPPER, **options) for _ in range(KEYS)]

    live, revoked, rotated = made(now=now), made(now=now), made(now=now)
    past = now - timedelta(days=2)
    expired = made(now=past, expires_at=past + timedelta(days=1))
    for one in revoked:
        admin.revoke_key(vault, one.record.id, now=now)
    for one in rotated:
        admin.rotate_key(vault, one.record.id, pepper=PEPPER, now=now, keep_old_s=0)
    index.update(vault.read())
    unknown = [mint(os.urandom(RANDOM_BYTES)) for _ in range(KEYS)]
    return index, {
        "unknown": unknown,
        "revoked": [one.key for one in revoked],
        "rotated": [one.key for one in rotated],
        "expired": [one.key for one in expired],
        "another secret": [mint(os.urandom(RANDOM_BYTES), key_id=one.record.id) for one in live],
        "another checksum": [one.key[:-1] + ("0" if one.key[-1] != "0" else "1") for one in live],
        "another form": [key[::-1].replace("_", "x") for key in unknown],
        "too short": [key[:-1] for key in unknown],
        "nothing": [""],
    }


class LeakyIndex(KeyIndex):
    """An index that hashes only what it knows: the mistake that these tests are for."""

    def find(self, token: str) -> Caller | None:
        """Return the caller, in no time where there is none."""
        return super().find(token) if token[ID] in self._live else None


def leaky(index: KeyIndex) -> KeyIndex:
    """Return a leaky index of the same keys."""
    made = LeakyIndex(PEPPER, defaults=RateLimits(), clock=time.time, origin="vault")
    made.update(index._entries)
    return made


def scope(key: str) -> Scope:
    """Return a request with this key, its bytes fresh."""
    return {"headers": [(b"host", b"a"), (b"authorization", b"Bearer " + key.encode())]}


def authenticator(index: KeyIndex) -> Authenticate:
    """Return what authenticates a request of a wrong key, with no limit on failures."""
    made = Authenticator(
        Identity(index, None, ()), lambda _scope: None, now=iter(range(0, 10**12, 60)).__next__
    )

    def authenticate(request: Scope) -> None:
        try:
            made(request)
        except NotAuthenticated:
            return
        raise AssertionError

    return authenticate


def path_of(authenticate: Authenticate, key: str) -> list[tuple[str, int]]:
    """Return function and offset of each bytecode that is executed for a key."""
    path: list[tuple[str, int]] = []

    def follow(frame: FrameType, event: str, _arg: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            path.append((frame.f_code.co_qualname, frame.f_lasti))
        return follow

    request, before = scope(key), sys.gettrace()
    gc.disable()  # finalizers of what other tests left would be on the path
    sys.settrace(follow)
    try:
        authenticate(request)
    finally:
        sys.settrace(before)
        gc.enable()
    return path


def test_every_wrong_key_takes_one_path(known: tuple[KeyIndex, Kinds]) -> None:
    """Each executes the same bytecode to the last instruction."""
    index, kinds = known
    authenticate = authenticator(index)
    paths = {kind: path_of(authenticate, keys[0]) for kind, keys in kinds.items() if len(keys[0]) == LENGTH}
    assert len(paths) == 7
    assert len(paths["unknown"]) > 100
    assert all(path == paths["unknown"] for path in paths.values())


def test_the_path_tells_a_leak(known: tuple[KeyIndex, Kinds]) -> None:
    """An index that answers early does not pass the test above."""
    index, kinds = known
    authenticate = authenticator(leaky(index))
    assert path_of(authenticate, kinds["unknown"][0]) != path_of(authenticate, kinds["expired"][0])


def test_every_wrong_key_costs_one_hash(
    known: tuple[KeyIndex, Kinds], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One HMAC of as many bytes, and two comparisons, also for what has not the length of a key."""
    index, kinds = known
    work: list[int] = []

    class Counted:
        def __init__(self) -> None:
            self.inner = hmac.new(PEPPER, digestmod="sha256")

        def copy(self) -> "Counted":
            return Counted()

        def update(self, data: bytes) -> None:
            work.append(len(data))
            self.inner.update(data)

        def digest(self) -> bytes:
            return self.inner.digest()

    def compare(one: bytes, other: bytes) -> bool:
        work.append(len(one) + len(other))
        return one == other

    monkeypatch.setattr(index, "_hmac", Counted())
    monkeypatch.setattr("cluster.stores.key_index.hmac.compare_digest", compare)
    authenticate = authenticator(index)
    for keys in kinds.values():
        work.clear()
        authenticate(scope(keys[0]))
        assert work == [LENGTH, 64, 64]


def sampled(authenticate: Authenticate, kinds: Kinds, dice: random.Random) -> dict[str, list[int]]:
    """Return the fastest half of the times of each kind in nanoseconds, taken in turn and in random order."""
    times: dict[str, list[int]] = {kind: [] for kind in kinds}
    order = list(kinds)
    gc.disable()
    try:
        for _ in range(SAMPLES):
            dice.shuffle(order)
            for kind in order:
                request = scope(dice.choice(kinds[kind]))
                start = time.perf_counter_ns()
                authenticate(request)
                times[kind].append(time.perf_counter_ns() - start)
    finally:
        gc.enable()
    return {kind: sorted(taken)[: SAMPLES // 2] for kind, taken in times.items()}


def beyond(one: list[int], other: list[int]) -> float:
    """Return Welch's t of how far two means differ beyond ``LEAST_NS``: very negative if surely less far."""
    error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
    return (abs(statistics.fmean(one) - statistics.fmean(other)) - LEAST_NS) / max(error, 1e-9)


def test_the_clock_tells_no_kind_from_another(known: tuple[KeyIndex, Kinds]) -> None:
    """Unknown, revoked, expired and malformed keys take the same time, as far as any network could tell."""
    index, kinds = known
    kinds = {kind: keys for kind, keys in kinds.items() if len(keys[0]) >= LENGTH - 1}
    authenticate, dice, left = authenticator(index), random.Random(7), set(kinds)
    for _ in range(TRIES):
        times = sampled(authenticate, kinds, dice)
        left = {kind for kind in left if beyond(times[kind], times["unknown"]) > -SURE_T}
        if not left:
            return
    pytest.fail(f"told from an unknown key: {left}")


def test_the_clock_tells_a_leak(known: tuple[KeyIndex, Kinds]) -> None:
    """It does so at every try, through whatever noise there is."""
    index, kinds = known
    authenticate, dice = authenticator(leaky(index)), random.Random(7)
    two = {kind: kinds[kind] for kind in ("unknown", "expired")}
    for _ in range(3):
        times = sampled(authenticate, two, dice)
        assert beyond(times["expired"], times["unknown"]) > SURE_T
