"""The `Vault` on a Kubernetes Secret, for administrative acts: read, decide, patch, after conflicts again."""

import random
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from cluster.settings import KeySecretSettings
from cluster.stores.admin import Change
from cluster.stores.key_secret import check_room, decode, merge_patch, origin, refused
from cluster.stores.kubernetes_client import NoWayError, connect
from cluster.stores.records import Entries, KeyStoreError, KeyStoreUnreachableError

REQUEST_S = 10.0
"""Seconds that one request to the API may take."""
CHANGE_S = 15.0
"""Seconds for which a change that meets conflicts or broken connections is tried again."""
_PAUSE_S = 0.05

_CONFLICT = 409
Answer = TypeVar("Answer")


class SecretVault:
    """Reads and changes a Secret with the credentials of a kubeconfig, or of the pod it runs in.

    A change is one merge patch of the entries that it touches, under the version of the Secret that it was
    decided on: an act that comes first makes the API refuse the patch, and the act is decided again.
    Raises `KeyStoreError` when there is no way to the API.
    """

    def __init__(self, place: KeySecretSettings) -> None:
        try:
            api, namespace = connect(place.kubeconfig, place.context)
        except NoWayError as error:
            raise KeyStoreError(str(error)) from error
        self._api = client.CoreV1Api(api)
        self._name, self._namespace = place.secret, place.namespace or namespace

    def read(self) -> Entries:
        """Return all records. Raises `KeyStoreError`."""
        return decode(self._secret().data)

    def entry(self, name: str) -> bytes:
        """Return another entry of the Secret, such as the pepper. Raises `KeyStoreError`."""
        found = (self._secret().data or {}).get(name)
        if found is None:
            raise KeyStoreError(f"{origin(self._namespace, self._name)}: no entry {name}")
        return b64decode(found)

    def change(self, act: Callable[[Entries], Change]) -> Change:
        """Apply ``act`` to the records as they are. Raises `KeyStoreError`."""
        deadline = time.monotonic() + CHANGE_S
        unsure: Change | None = None
        while True:
            secret = self._secret()
            entries = decode(secret.data)
            if unsure is not None and _holds(entries, unsure.entries):
                return unsure  # the connection broke after the API had taken the patch
            change = act(entries)
            check_room(secret.data, change.entries)
            try:
                if self._patch(str(secret.metadata.resource_version), change.entries):
                    return change
                trouble = "others change it all the time"
            except KeyStoreUnreachableError as error:
                unsure, trouble = change, str(error)
            if time.monotonic() > deadline:
                raise KeyStoreUnreachableError(
                    f"{origin(self._namespace, self._name)}: not changed in {CHANGE_S:g} s: {trouble}"
                )
            time.sleep(_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - spreads tries, guards nothing

    def _secret(self) -> Any:
        return self._call(
            lambda: self._api.read_namespaced_secret(self._name, self._namespace, _request_timeout=REQUEST_S)
        )

    def _patch(self, version: str, entries: Mapping[str, bytes | None]) -> bool:
        """Return whether the Secret was still of that version, and is patched."""
        try:
            self._call(
                lambda: self._api.patch_namespaced_secret(
                    self._name,
                    self._namespace,
                    merge_patch(version, entries),
                    field_manager="gpt-oss-cluster",
                    _content_type="application/merge-patch+json",
                    _request_timeout=REQUEST_S,
                )
            )
        except _ConflictError:
            return False
        return True

    def _call(self, request: Callable[[], Answer]) -> Answer:
        try:
            return request()
        except ApiException as error:
            if error.status == _CONFLICT:
                raise _ConflictError from error
            raise refused(self._namespace, self._name, error.status or 0, error.body) from None
        except urllib3.exceptions.HTTPError as error:
            raise KeyStoreUnreachableError(
                f"the Kubernetes API at {self._api.api_client.configuration.host} cannot be reached: {error}"
            ) from error


class _ConflictError(Exception):
    """The Secret has changed since it was read."""


def _holds(entries: Entries, change: Mapping[str, bytes | None]) -> bool:
    """Whether ``entries`` are what ``change`` would make of them."""
    return all(entries.get(name) == data for name, data in change.items())
