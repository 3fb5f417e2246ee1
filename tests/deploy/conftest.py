"""A Kubernetes API over HTTP, and recorded states put into it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.api import Api
from tests.kube.api import KubernetesApi, in_thread

NAMESPACE = "ai"


@pytest.fixture
def kube() -> Iterator[KubernetesApi]:
    """Return a running API."""
    api = KubernetesApi()
    api.add_namespace(NAMESPACE)
    with in_thread(api):
        yield api


@pytest.fixture
def kubeconfig(kube: KubernetesApi, tmp_path: Path) -> Path:
    """Return the way to it."""
    return kube.kubeconfig(tmp_path / "kubeconfig", namespace=NAMESPACE)


@pytest.fixture
def told() -> list[str]:
    """Return what the client has told of trouble."""
    return []


@pytest.fixture
def api(kubeconfig: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> Api:
    """Return the client under test; it waits no longer than it must."""
    made = Api.connect(kubeconfig, None, None, told.append)
    monkeypatch.setattr(made, "_sleep", lambda _: None)
    return made
