"""What is read of a cluster over HTTP is what was recorded, and whatever the API does is survived or told."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy import api as client
from deploy import release as releases
from deploy import stalls
from deploy.api import Api, ApiError, ConflictError, ForbiddenError, MissingError, UnreachableError
from tests.deploy.conftest import NAMESPACE
from tests.deploy.recorded import load, names, now, put
from tests.kube.access import ADMIN, Role
from tests.kube.api import KubernetesApi, in_thread

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@contextmanager
def cluster(folder: Path, *without: str, **tokens: Role) -> Iterator[tuple[KubernetesApi, Api]]:
    """Give an API and a client of it, without some groups, for the holder of a token."""
    kube = KubernetesApi(without=without, tokens={"admin-token": ADMIN, **tokens})
    kube.add_namespace(NAMESPACE)
    with in_thread(kube):
        token = next(iter(tokens), "admin-token")
        kubeconfig = kube.kubeconfig(folder / "kubeconfig", token, namespace=NAMESPACE)
        yield kube, Api.connect(kubeconfig, None, None)


@pytest.mark.parametrize("name", names("stalls"))
def test_a_stall_is_told_from_a_real_api(name: str, tmp_path: Path) -> None:
    """The records are objects that the API takes, and what is read of it comes to the same line."""
    record = load(f"stalls/{name}")
    with cluster(tmp_path, *record.get("unserved", ())) as (kube, api):
        put(kube, record)
        found = releases.read(api, "gpt", now(record))
    assert found.unread == ()
    assert str(stalls.find(found)[0]) == record["line"]


def test_the_release_of_the_namespace_is_read(kube: KubernetesApi, api: Api) -> None:
    """Pods of another release in the namespace, and of another RayService, are not this one's."""
    record = load("releases/ready")
    put(kube, record)
    other = releases.read(api, "other", now(record))
    assert (other.ray_service, other.pods, other.deployments) == (None, (), ())
    assert len(releases.read(api, "gpt", now(record)).pods) == 5


def test_pages_are_put_together(kube: KubernetesApi, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long collection comes in pages, and none is lost."""
    monkeypatch.setattr(client, "PAGE", 2)
    put(kube, load("releases/ready"))
    assert len(api.all(PODS)) == 5
    assert len([verb for verb, path, _ in kube.requests if (verb, path) == ("list", PODS)]) == 3


Fault = Callable[[KubernetesApi], None]
PASSING: list[tuple[str, Fault, str]] = [
    ("429", lambda kube: kube.fail(429, 2, "TooManyRequests"), "429 ordered by the test"),
    ("429 with a time", lambda kube: kube.fail(429, retry_after_s=7), r"again in [789]\."),
    ("500", lambda kube: kube.fail(500, 3), "500 ordered by the test"),
    ("503", lambda kube: kube.fail(503, reason="ServiceUnavailable"), "503 ordered by the test"),
    ("410 while a list is read", lambda kube: kube.fail(410, 2, "Expired"), "too old while it was read"),
    ("a dropped connection", lambda kube: kube.drop_connections(2), "again in"),
]


@pytest.mark.parametrize(("fault", "words"), [pytest.param(*row[1:], id=row[0]) for row in PASSING])
def test_trouble_that_passes_is_sat_out(
    fault: Fault, words: str, kube: KubernetesApi, api: Api, told: list[str]
) -> None:
    """Refusals that pass, and broken connections, are tried again, and each is told."""
    put(kube, load("releases/ready"))
    fault(kube)
    assert len(api.all(PODS)) == 5
    assert kube.faults.left == 0
    assert told
    assert any(re.search(words, text) for text in told), told


LASTING: list[tuple[str, Fault, type[ApiError], str]] = [
    ("500 for ever", lambda kube: kube.fail(500, 99), UnreachableError, "last: 500 ordered by the test"),
    (
        "429 for an hour",
        lambda kube: kube.fail(429, 99, retry_after_s=3600),
        UnreachableError,
        "no answer of use",
    ),
    (
        "410 again and again",
        lambda kube: kube.fail(410, 99, "Expired"),
        UnreachableError,
        "too old three times",
    ),
    ("dropped for ever", lambda kube: kube.drop_connections(99), UnreachableError, "no answer of use"),
    ("silence", lambda kube: kube.hang(True), UnreachableError, "no answer of use"),
    ("401", lambda kube: kube.fail(401, reason="Unauthorized"), UnreachableError, "renew the kubeconfig"),
    (
        "403",
        lambda kube: kube.fail(403, reason="Forbidden"),
        ForbiddenError,
        "GET /api/v1/namespaces/ai/pods",
    ),
    ("404", lambda kube: kube.fail(404, reason="NotFound"), MissingError, f"GET {PODS}"),
    ("409", lambda kube: kube.fail(409, reason="Conflict"), ConflictError, f"GET {PODS}"),
    ("422", lambda kube: kube.fail(422, reason="Invalid"), ApiError, "ordered by the test: 422"),
]


@pytest.fixture
def impatient(kube: KubernetesApi, api: Api, monkeypatch: pytest.MonkeyPatch) -> tuple[KubernetesApi, Api]:
    """Return an API and a client that gives up soon."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.5)
    monkeypatch.setattr(client, "REQUEST_S", 0.1)
    return kube, api


@pytest.mark.parametrize(("fault", "kind", "words"), [pytest.param(*row[1:], id=row[0]) for row in LASTING])
def test_trouble_that_stays_is_an_error(
    fault: Fault, kind: type[ApiError], words: str, impatient: tuple[KubernetesApi, Api]
) -> None:
    """What does not pass in time ends as one error that names request and cause."""
    kube, api = impatient
    fault(kube)
    with pytest.raises(kind, match=words) as caught:
        api.all(PODS)
    assert type(caught.value) is kind
    kube.hang(False)


def test_an_api_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens, the error names the address."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.2)
    with cluster(tmp_path) as (_, api):
        pass  # and away it is
    with pytest.raises(UnreachableError, match=api.host):
        api.get("/version")


def test_what_is_no_kubernetes(kube: KubernetesApi, api: Api) -> None:
    """Something else that answers is told apart."""
    with pytest.raises(UnreachableError, match="is it Kubernetes"):
        api.get("/livez")


def test_few_rights_read_what_they_may(tmp_path: Path) -> None:
    """With rights on pods alone the pods are read, and each other thing is told as not read."""
    reader = Role(
        "reader", frozenset({"get", "list"}), resources=frozenset({"pods", "rayservices", "rayclusters"})
    )
    record = load("releases/ready")
    with cluster(tmp_path, reader=reader) as (kube, api):
        put(kube, record)
        found = releases.read(api, "gpt", now(record))
    assert len(found.pods) == 5
    assert (found.operator, found.deployments) == (None, ())
    assert any('cannot list resource "nodes"' in text for text in found.unread)
