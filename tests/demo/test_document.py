"""What the demo writes: a document that the real settings model accepts, and secrets for this user alone."""

from pathlib import Path

from cluster import settings
from cluster.demo import document
from cluster.demo.document import State
from cluster.demo.machine import Ports


def test_the_document_is_right(tmp_path: Path) -> None:
    """The written document loads, with both models and the ports asked for."""
    state = State(tmp_path / "state")
    document.prepare(state)
    document.write_config(state, "vllm", Ports(gateway=1234), tmp_path / "model", tmp_path / "vocabulary")
    loaded = settings.load(state.config)
    assert set(loaded.models) == set(document.MODELS)
    assert loaded.gateway.listen == "127.0.0.1:1234"
    assert all(pool.engine == "vllm" for pool in loaded.serving.pools.values())


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    """A second start keeps the secrets, so that a key exported before it still works."""
    state = State(tmp_path / "state")
    document.prepare(state)
    first = state.pepper.read_text(), state.engine_key.read_text()
    document.prepare(state)
    assert (state.pepper.read_text(), state.engine_key.read_text()) == first
    assert first[0] != first[1]


def test_only_this_user_may_read_the_secrets(tmp_path: Path) -> None:
    """The folder and each secret in it are closed to others."""
    state = State(tmp_path / "state")
    document.prepare(state)
    assert state.folder.stat().st_mode & 0o077 == 0
    assert state.pepper.stat().st_mode & 0o077 == 0
    assert state.engine_key.stat().st_mode & 0o077 == 0


def test_keys_are_made_once_and_work(tmp_path: Path) -> None:
    """The demo's two tenants keep their keys; one of them may see the chain of thought."""
    state = State(tmp_path / "state")
    document.prepare(state)
    keys = document.client_keys(state)
    assert document.client_keys(state) == keys
    assert set(keys) == {"demo", "research"}
