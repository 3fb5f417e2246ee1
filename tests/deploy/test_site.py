"""What preflight reads and tries, with all rights and with few."""

from pathlib import Path
from typing import Any

import pytest

from deploy import preflight, site
from deploy.api import Api
from deploy.wishes import Wishes, parse
from tests.deploy.conftest import NAMESPACE
from tests.deploy.test_wishes import MANIFESTS
from tests.kube.access import ADMIN, Role
from tests.kube.api import KubernetesApi
from tests.kube.kinds import KINDS

WISHES = parse(MANIFESTS)


def held_by(kube: KubernetesApi, folder: Path, verbs: set[str], resources: set[str]) -> Api:
    """Return the client of an account with few rights."""
    kube.tokens["few"] = Role("few", frozenset(verbs), resources=frozenset(resources))
    return Api.connect(kube.kubeconfig(folder / "few", "few", namespace=NAMESPACE), None, None)


def test_what_may_not_be_read_is_unknown(kube: KubernetesApi, tmp_path: Path) -> None:
    """An account that may not read Secrets, claims or nodes finds none of them missing, and says so."""
    api = held_by(kube, tmp_path, {"get", "list", "create"}, {"namespaces", "selfsubjectaccessreviews"})
    found = preflight.decide(site.read(api, WISHES), WISHES)
    codes = {each.code for each in found}
    assert not codes & {"secret-missing", "claim-missing", "gpu-missing", "storage-class-missing"}
    unread = " ".join(each.what for each in found if each.code == "unread")
    for resource in ("secrets", "persistentvolumeclaims", "nodes", "deployments"):
        assert f'resource "{resource}"' in unread, resource


def test_rights_are_reviewed(kube: KubernetesApi, tmp_path: Path) -> None:
    """Each right that an install takes and the account lacks is told, by kind and namespace."""
    verbs = {"get", "list", "create", "patch"}
    kinds = {"namespaces", "selfsubjectaccessreviews", "secrets", "deployments", "ingresses"}
    api = held_by(kube, tmp_path, verbs, kinds)
    denied = site.read(api, WISHES).denied
    assert "delete secrets in ai" in denied
    assert "get, create, patch, delete rayservices.ray.io in ai" in denied
    everything = held_by(kube, tmp_path, set(ADMIN.verbs), {kind.plural for kind in KINDS})
    assert site.read(everything, WISHES).denied == ()


def test_what_may_not_be_tried_is_unknown(kube: KubernetesApi, tmp_path: Path) -> None:
    """An account that may not create is told what was not tried; that is no refusal of the object."""
    api = held_by(kube, tmp_path, {"get", "list"}, {"namespaces", "deployments"})
    found = site.read(api, WISHES)
    assert found.refusals == ()
    assert any(text.startswith("not tried: Deployment gateway") for text in found.unread)


def test_a_missing_namespace_is_told_alone(kube: KubernetesApi, api: Api) -> None:
    """Where the namespace is missing nothing is tried in it."""
    kube.drop("Namespace", NAMESPACE)
    found = site.read(api, WISHES)
    assert (found.exists, found.refusals) == (False, ())
    assert "namespace-missing" in {each.code for each in preflight.decide(found, WISHES)}


def test_pods_are_tried_under_the_default_account(
    kube: KubernetesApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod's own account is made by the same install, so an API would refuse the pod for its lack."""
    tried: list[Any] = []
    create = api.create

    def watched(path: str, body: Any, **query: str) -> Any:
        tried.append((body, query))
        return create(path, body, **query)

    monkeypatch.setattr(api, "create", watched)
    plain, named = "{spec: {containers", "{spec: {serviceAccountName: ray, containers"
    wishes = parse(MANIFESTS.replace(plain, named))
    assert any(pod.spec.get("serviceAccountName") for pod in wishes.pods)
    site.read(api, wishes)
    pods = [(body, query) for body, query in tried if body["kind"] == "Pod"]
    assert len(pods) == len(wishes.pods)
    assert not [body for body, _ in pods if "serviceAccountName" in body["spec"]]
    assert all(query["dryRun"] == "All" for _, query in pods)


def test_the_fields_of_the_installed_definition(kube: KubernetesApi, api: Api) -> None:
    """The CRD's own schema tells how old it is; a cluster without it tells nothing."""
    fields = site.read(api, Wishes()).ray_service_fields
    assert fields is not None
    assert {"suspend", "serveConfigV2"} <= fields
    kube.drop("CustomResourceDefinition", "rayservices.ray.io")
    assert site.read(api, Wishes()).ray_service_fields is None
