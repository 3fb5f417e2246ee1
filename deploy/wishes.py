"""What rendered manifests want of a cluster: kinds, GPUs, Secrets, volumes, classes. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from deploy.api import Object
from deploy.names import GPU
from deploy.objects import at, containers, name, request


class ManifestError(ValueError):
    """What was given is no stream of Kubernetes objects."""


@dataclass(frozen=True, slots=True)
class PodWish:
    """Pods that one template makes."""

    owner: str
    """Whose template it is, in words: ``RayService x, group h100``."""
    replicas: int
    metadata: Object
    spec: Object

    @property
    def gpus_each(self) -> int:
        """GPUs of one pod."""
        return int(request(self.spec, GPU))


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that a set of manifests wants."""

    objects: tuple[Object, ...] = ()
    pods: tuple[PodWish, ...] = ()

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """``apiVersion`` and kind of every object, each once."""
        return sorted({(str(each["apiVersion"]), str(each["kind"])) for each in self.objects})

    @property
    def ray_services(self) -> list[str]:
        """Names of the RayServices."""
        return [name(each) for each in self.objects if each["kind"] == "RayService"]

    @property
    def secrets(self) -> dict[str, set[str]]:
        """Secrets that must be there already, each with the keys that are read."""
        own, found = self._made("Secret"), defaultdict[str, set[str]](set)
        for secret, key in self._secret_references():
            if secret not in own:
                found[secret] |= {key} if key else set()
        return dict(found)

    @property
    def claims(self) -> set[str]:
        """PVCs that must be there already."""
        named = {
            str(at(volume, "persistentVolumeClaim", "claimName"))
            for pod in self.pods
            for volume in pod.spec.get("volumes") or []
            if at(volume, "persistentVolumeClaim")
        }
        return named - self._made("PersistentVolumeClaim")

    @property
    def storage_classes(self) -> set[str]:
        """Storage classes of the claims to be made; empty for the cluster's default."""
        specs = [each["spec"] for each in self.objects if each["kind"] == "PersistentVolumeClaim"]
        for each in self.objects:
            if each["kind"] == "StatefulSet":
                specs += [claim["spec"] for claim in at(each, "spec", "volumeClaimTemplates") or []]
        wanting = [spec for spec in specs if not spec.get("volumeName")]
        return {str(spec.get("storageClassName") or "") for spec in wanting}

    def classes(self, field: str) -> set[str]:
        """Return the classes that pods or objects name in a field, such as ``runtimeClassName``."""
        specs = [*(pod.spec for pod in self.pods), *(each.get("spec") or {} for each in self.objects)]
        return {str(spec[field]) for spec in specs if spec.get(field)}

    def _made(self, kind: str) -> set[str]:
        return {name(each) for each in self.objects if each["kind"] == kind}

    def _secret_references(self) -> Iterator[tuple[str, str]]:
        for pod in self.pods:
            yield from _pod_secrets(pod.spec)
        for each in self.objects:
            if secret := at(each, "spec", "rayClusterConfig", "authOptions", "secretName"):
                yield str(secret), "auth_token"
            for tls in at(each, "spec", "tls") or [] if each["kind"] == "Ingress" else []:
                if tls.get("secretName") and not self._issued():
                    yield str(tls["secretName"]), "tls.crt"

    def _issued(self) -> bool:
        """Whether cert-manager makes certificates here: their Secrets come later."""
        return any(
            each["kind"] == "Certificate"
            or any("cert-manager.io" in key for key in at(each, "metadata", "annotations") or {})
            for each in self.objects
        )


def parse(text: str) -> Wishes:
    """Return the wishes of a YAML stream, as ``helm template`` prints it. Raises `ManifestError`."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}") from None
    objects = tuple(_flat(documents))
    if not objects:
        raise ManifestError("there is no object in it: give what `helm template` prints")
    return Wishes(objects, tuple(pod for each in objects for pod in _pods(each)))


def _flat(documents: Iterable[Any]) -> Iterator[Object]:
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or not document.get("kind") or not document.get("apiVersion"):
            raise ManifestError(
                "a document in it has no apiVersion and kind: give what `helm template` prints"
            )
        if document["kind"] == "List":
            yield from _flat(document.get("items") or [])
        else:
            yield document


def _pods(item: Object) -> Iterator[PodWish]:
    kind, spec = str(item["kind"]), item.get("spec") or {}
    owner = f"{kind} {name(item)}"
    if kind == "Pod":
        yield PodWish(owner, 1, item.get("metadata") or {}, spec)
    elif kind in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
        wish = _wish(owner, int(spec.get("replicas") or 1), spec.get("template"))
        claims = [at(each, "metadata", "name") for each in spec.get("volumeClaimTemplates") or []]
        volumes = [{"name": claim, "emptyDir": {}} for claim in claims]  # the controller puts claims there
        yield replace(wish, spec={**wish.spec, "volumes": [*(wish.spec.get("volumes") or []), *volumes]})
    elif kind == "CronJob":
        yield _wish(owner, 1, at(spec, "jobTemplate", "spec", "template"))
    elif kind in {"RayService", "RayCluster"}:
        cluster = spec.get("rayClusterConfig") or spec
        yield _wish(f"{owner}, head", 1, at(cluster, "headGroupSpec", "template"))
        for group in cluster.get("workerGroupSpecs") or []:
            replicas = int(group.get("replicas") or group.get("minReplicas") or 0)
            yield _wish(f"{owner}, group {group.get('groupName')}", replicas, group.get("template"))


def _wish(owner: str, replicas: int, template: Mapping[str, Any] | None) -> PodWish:
    return PodWish(owner, replicas, at(template, "metadata") or {}, at(template, "spec") or {})


def _pod_secrets(spec: Object) -> Iterator[tuple[str, str]]:
    """Yield each Secret and key that a pod cannot start without."""
    for each in spec.get("imagePullSecrets") or []:
        yield str(each["name"]), ".dockerconfigjson"
    for container in containers(spec):
        for variable in container.get("env") or []:
            reference = at(variable, "valueFrom", "secretKeyRef")
            if reference and not reference.get("optional"):
                yield str(reference["name"]), str(reference["key"])
        for source in container.get("envFrom") or []:
            if source.get("secretRef") and not source["secretRef"].get("optional"):
                yield str(source["secretRef"]["name"]), ""
    for volume in spec.get("volumes") or []:
        sources = [volume, *(at(volume, "projected", "sources") or [])]
        for secret in (source.get("secret") for source in sources):
            if secret and not secret.get("optional"):
                for key in [each["key"] for each in secret.get("items") or []] or [""]:
                    yield str(secret.get("secretName") or secret.get("name")), str(key)
