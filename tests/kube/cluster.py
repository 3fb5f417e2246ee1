"""A cluster as tests of helm, kubectl and the command line see it: the API over TLS, and a kubeconfig."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests import certificates
from tests.helm_tools import Tool
from tests.kube.api import KubernetesApi, in_thread


@dataclass(frozen=True)
class Cluster:
    """A running API with the namespace ``serving``."""

    api: KubernetesApi
    kubeconfig: Path
    """An administrator's."""

    def connected(self, tool: Tool, token: str | None = None) -> Tool:
        """Return a program that speaks to it, as the administrator or as the holder of a token."""
        if token is None:
            return replace(tool, kubeconfig=self.kubeconfig)
        return replace(tool, kubeconfig=self.api.kubeconfig(tool.home / f"{token}.yaml", token))


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Cluster]:
    """Run a cluster made of `KubernetesApi`'s options."""
    api = KubernetesApi(certificates=certificates.make(folder), **options)
    api.add_namespace("serving")
    with in_thread(api):
        yield Cluster(api, api.kubeconfig(folder / "kubeconfig"))
