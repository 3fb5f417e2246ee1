"""Tenants and keys in a Kubernetes Secret: one entry per record, as in a directory.

What both sides of it share: the gateway watches the Secret (`secret_watch`), administrative acts change it
(`secret_vault`). Only these two import the Kubernetes client, which takes most of a second.
"""

import binascii
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.stores.records import Entries, KeyStoreError, KeyStoreUnreachableError, is_entry

MAX_BYTES = 1024 * 1024
"""Most bytes that the API takes in the values of one Secret."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, the API's certificate authority and its namespace."""

_WHY = {
    401: "the API does not know this caller: renew the kubeconfig's credentials",
    403: "it takes get and patch on this Secret to administer keys; get, list and watch to serve them",
    404: "create it with: kubectl create secret generic {name} --namespace {namespace}",
}


def in_pod(kubeconfig: Path | None, context: str | None) -> bool:
    """Whether the pod's service account is the way to the API: no kubeconfig is named, and this is a pod."""
    return kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ


def pod_namespace() -> str:
    """Return the namespace that this pod runs in. Raises ``OSError``."""
    return (SERVICE_ACCOUNT / "namespace").read_text(encoding="ascii").strip()


def kubeconfig_namespace(contexts: list[Any], active: Any, context: str | None) -> str:
    """Return the namespace of a kubeconfig's context, the current one for None."""
    chosen = next((item for item in contexts if item["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


def origin(namespace: str, name: str) -> str:
    """Return how logs and errors name a Secret."""
    return f"Secret {namespace}/{name}"


def refused(namespace: str, name: str, status: int, body: str | bytes | None) -> KeyStoreError:
    """Return the error for an answer of the API that is not 200."""
    try:
        reason = str(json.loads(body or b"")["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"status {status}"
    why = _WHY.get(status, "").format(name=name, namespace=namespace)
    text = f"{origin(namespace, name)}: {reason}" + (f"; {why}" if why else "")
    return KeyStoreUnreachableError(text) if status == 429 or status >= 500 else KeyStoreError(text)


def decode(data: Mapping[str, str] | None) -> Entries:
    """Return the records in a Secret's ``data``; its other entries are left alone. Raises `KeyStoreError`."""
    try:
        return {
            name: b64decode(value, validate=True) for name, value in (data or {}).items() if is_entry(name)
        }
    except binascii.Error as error:
        raise KeyStoreError(f"the Secret's data is not base64: {error}") from None


def merge_patch(version: str, entries: Mapping[str, bytes | None]) -> dict[str, Any]:
    """Return the JSON merge patch that writes ``entries`` into a Secret, if it still is of that version."""
    data = {name: None if value is None else b64encode(value).decode() for name, value in entries.items()}
    return {"metadata": {"resourceVersion": version}, "data": data}


def check_room(data: Mapping[str, str] | None, entries: Mapping[str, bytes | None]) -> None:
    """Check that a Secret with this ``data`` has room for ``entries``. Raises `KeyStoreError`."""
    sizes = {name: len(b64decode(value)) for name, value in (data or {}).items()}
    for name, value in entries.items():
        sizes.pop(name, None)
        if value is not None:
            sizes[name] = len(value)
    size = sum(sizes.values())
    if size > MAX_BYTES:
        raise KeyStoreError(
            f"the Secret would hold {size} bytes in {len(sizes)} entries, and Kubernetes takes {MAX_BYTES}: "
            "remove tenants that are no longer used with `gpt-oss-cluster tenants remove`, forget dead keys "
            "with `gpt-oss-cluster keys revoke --forget`, or keep keys in a directory"
        )
