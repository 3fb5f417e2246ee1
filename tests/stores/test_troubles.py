"""Troubles that last are told once, and so is their end."""

import logging

import pytest

from cluster.stores.troubles import Troubles


def test_a_trouble_is_told_once_and_when_it_changes_or_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A store that tries every second fills no log; each thing has a trouble of its own."""
    caplog.set_level(logging.INFO)
    troubles = Troubles(logging.getLogger("test"))
    for trouble in ("no such file", "no such file", "permission denied", "permission denied"):
        troubles.tell("keys", trouble)
    troubles.tell("tenants", "no such file")
    for about in ("keys", "keys", "nothing"):
        troubles.over(about)
    troubles.tell("keys", "permission denied")
    assert caplog.messages == [
        "keys: no such file", "keys: permission denied", "tenants: no such file",
        "keys: over: permission denied", "keys: permission denied",
    ]  # fmt: skip
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3 + ["INFO", "ERROR"]
