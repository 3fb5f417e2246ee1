"""What rendered manifests want of a cluster."""

import pytest

from deploy.wishes import ManifestError, Wishes, parse

MANIFESTS = """
apiVersion: v1
kind: Secret
metadata: {name: made-here}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: models}
spec: {storageClassName: nfs, accessModes: [ReadWriteMany], resources: {requests: {storage: 200Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway}
spec:
  replicas: 2
  template:
    spec:
      imagePullSecrets: [{name: registry}]
      priorityClassName: high
      containers:
        - name: gateway
          image: x
          env:
            - {name: A, valueFrom: {secretKeyRef: {name: site, key: pepper}}}
            - {name: B, valueFrom: {secretKeyRef: {name: not-needed, key: a, optional: true}}}
            - {name: C, valueFrom: {secretKeyRef: {name: made-here, key: a}}}
      volumes:
        - {name: a, secret: {secretName: site, items: [{key: engine-key, path: engine-key}]}}
        - {name: b, projected: {sources: [{secret: {name: projected}}]}}
        - {name: c, persistentVolumeClaim: {claimName: models}}
        - {name: d, persistentVolumeClaim: {claimName: of-the-site}}
---
apiVersion: ray.io/v1
kind: RayService
metadata: {name: ray}
spec:
  rayClusterConfig:
    authOptions: {mode: token, secretName: ray-auth}
    headGroupSpec: {template: {spec: {containers: [{name: head, image: x}]}}}
    workerGroupSpecs:
      - groupName: h100
        replicas: 4
        template:
          spec:
            runtimeClassName: nvidia
            containers: [{name: worker, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: gateway}
spec: {ingressClassName: nginx, tls: [{secretName: tls, hosts: [a.example.com]}]}
"""


@pytest.fixture(scope="module")
def wishes() -> Wishes:
    """Return the wishes of the manifests above."""
    return parse(MANIFESTS)


def test_secrets_that_must_be_there(wishes: Wishes) -> None:
    """Each Secret with its keys, from pull secrets, variables, volumes, Ray and TLS; not those made here."""
    assert wishes.secrets == {
        "registry": {".dockerconfigjson"},
        "site": {"pepper", "engine-key"},
        "projected": set(),
        "ray-auth": {"auth_token"},
        "tls": {"tls.crt"},
    }


def test_a_certificate_brings_its_secret() -> None:
    """With a cert-manager annotation the Ingress's Secret comes later."""
    issued = MANIFESTS.replace(
        "kind: Ingress\nmetadata: {name: gateway}",
        "kind: Ingress\nmetadata: {name: gateway, annotations: {cert-manager.io/issuer: ca}}",
    )
    assert "tls" not in parse(issued).secrets


def test_volumes_and_classes(wishes: Wishes) -> None:
    """Claims and classes that the manifests name and do not make."""
    assert wishes.claims == {"of-the-site"}
    assert wishes.storage_classes == {"nfs"}
    assert [
        wishes.classes(each) for each in ("runtimeClassName", "priorityClassName", "ingressClassName")
    ] == [{"nvidia"}, {"high"}, {"nginx"}]


def test_pods_with_their_gpus(wishes: Wishes) -> None:
    """Every template is a wish for pods, those in a RayService too."""
    assert [(pod.owner, pod.replicas, pod.gpus_each) for pod in wishes.pods] == [
        ("Deployment gateway", 2, 0),
        ("RayService ray, head", 1, 0),
        ("RayService ray, group h100", 4, 1),
    ]


def test_lists_are_flattened() -> None:
    """A ``List`` stands for its items, and empty documents for nothing."""
    found = parse("---\n---\napiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret}]")
    assert found.kinds == [("v1", "Secret")]


WRONG = [
    pytest.param("a: [", "not YAML", id="not YAML"),
    pytest.param("", "no object", id="empty"),
    pytest.param("image: {tag: x}", "no apiVersion and kind", id="values instead of manifests"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_no_manifest_is_refused(text: str, words: str) -> None:
    """Something else than manifests is refused, and says what to give."""
    with pytest.raises(ManifestError, match=words):
        parse(text)
