"""Keeps a `KeyIndex` equal to a Kubernetes Secret: list, then watch, and list again whenever in doubt.

The traps that shape this module:

- A watch starts at the version of a *list*: that of the object itself may be so old that the API has
  forgotten it (410), for ever.
- A watch can fall silent without an end. It is short, the socket asks for its peer every few seconds, and the
  API is asked for bookmarks: each proves that what is known is current, and `KeyIndex.age_s` tells when that
  was last so.
- The client's own ``Watch`` hides all of this, so that events are read off the raw response here.
- A Secret that is deleted is a mistake, not a revocation: the last good records stay in force, and age.
"""

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import aiohttp
import orjson
from kubernetes.aio import client, config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from cluster.settings import KeySecretSettings
from cluster.stores import key_secret
from cluster.stores.key_index import KeyIndex
from cluster.stores.key_secret import decode, in_pod, origin, refused
from cluster.stores.records import Entries, KeyStoreError
from cluster.stores.snapshot import Snapshot
from cluster.stores.troubles import Troubles

logger = logging.getLogger(__name__)

LIST_S = 10.0
"""Seconds that a list may take."""
WATCH_S = 60
"""Seconds after which the API is asked to end a watch, which then goes on from where it was."""
SILENCE_S = WATCH_S + 10.0
"""Seconds without an event after which a watch is given up."""
RETRY_S = (0.2, 5.0)
"""Seconds before the first and, doubled each time, any later try at an API that fails."""
_KEEPALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}
"""A peer that is gone without a word is noticed in five seconds."""
_GONE = 410
_KEYS = "API keys"
_EXPECTED = (KeyStoreError, aiohttp.ClientError, OSError, ValueError)
"""What an API that is away, or that refuses us, raises; ``ValueError`` for an event that was cut short."""


class SecretWatch:
    """Follows a Secret. ``changed`` is told the names of entries that change after the first reading."""

    def __init__(
        self,
        place: KeySecretSettings,
        index: KeyIndex,
        changed: Callable[[list[str]], None] = lambda _names: None,
    ) -> None:
        self._place, self._index, self._changed = place, index, changed
        self._snapshot = Snapshot(place.snapshot_file)
        self._failures = 0
        self._troubles = Troubles(logger)

    async def follow(self) -> NoReturn:
        """Follow the Secret until cancelled; whatever fails is logged and tried again."""
        while True:
            try:
                async with _connected(self._place) as (api, namespace):
                    secret = _Secret(api, namespace, self._place.secret)
                    version = await self._list(secret)
                    while True:
                        version = await self._watch(secret, version)
            except _Expired:
                pass
            except _EXPECTED as error:
                trouble = str(error) or type(error).__name__
                self._troubles.tell(_KEYS, f"{trouble}; the last good ones stay in force")
            except Exception:
                logger.exception("following the keys failed; the last good ones stay in force")
            await self._fall_back()
            await asyncio.sleep(_pause_s(self._failures, random.uniform(0.5, 1)))  # noqa: S311 - spreads tries
            self._failures += 1

    async def _list(self, secret: "_Secret") -> str:
        """Take over the Secret as it is; return the version to watch from."""
        version, data = await secret.list()
        await self._take(decode(data))
        return version

    async def _watch(self, secret: "_Secret", version: str) -> str:
        """Take over changes after ``version`` until the API ends the watch; return the last version seen."""
        async for kind, found in secret.watch(version):
            if kind == "DELETED":
                raise KeyStoreError(f"{secret}: it was deleted")
            if kind == "BOOKMARK":
                self._index.confirm()
            else:
                await self._take(decode(found.get("data")))
            version = str(found["metadata"]["resourceVersion"])
            self._failures = 0
        self._index.confirm()
        self._failures = 0
        return version

    async def _take(self, entries: Entries) -> None:
        first = not self._index.ready
        changed = await asyncio.to_thread(self._index.update, entries)
        self._troubles.over(_KEYS)
        if changed and not first:
            self._changed(changed)
        if changed:
            texts = {name: data.decode("utf-8", "replace") for name, data in entries.items()}
            await asyncio.to_thread(self._snapshot.save, orjson.dumps(texts))

    async def _fall_back(self) -> None:
        """Where nothing has been read yet, take over the snapshot of an earlier run."""
        if self._index.ready:
            return
        kept = await asyncio.to_thread(self._snapshot.load)
        if kept is None:
            return
        data, saved_s = kept
        try:
            entries = {str(name): str(text).encode() for name, text in orjson.loads(data).items()}
        except (ValueError, AttributeError):
            logger.error("%s: not a snapshot of keys", self._place.snapshot_file)
            return
        self._index.update(entries, confirmed_s=saved_s)
        logger.warning("keys are those of %s until the API answers", self._place.snapshot_file)


class _Expired(Exception):  # noqa: N818 - the API's word
    """The API has forgotten the version that a watch would start from: list again."""


class _Secret:
    """One Secret as a collection of at most one: what a role that names it may list and watch."""

    def __init__(self, api: client.CoreV1Api, namespace: str, name: str) -> None:
        self._api, self._namespace, self._name = api, namespace, name

    def __str__(self) -> str:
        return origin(self._namespace, self._name)

    async def list(self) -> tuple[str, dict[str, str] | None]:
        """Return the version of the list, and the Secret's data. Raises `KeyStoreError`."""
        async with self._get(_request_timeout=LIST_S) as response:
            found = orjson.loads(await response.read())
        if not found["items"]:
            raise refused(self._namespace, self._name, 404, b'{"message": "it does not exist"}')
        return str(found["metadata"]["resourceVersion"]), found["items"][0].get("data")

    async def watch(self, version: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield kind and object of each event until the API ends the watch.

        Raises `_Expired` and `KeyStoreError`.
        """
        options = {
            "watch": True,
            "resource_version": version,
            "allow_watch_bookmarks": True,
            "timeout_seconds": WATCH_S,
        }
        async with self._get(**options, _request_timeout=SILENCE_S) as response:
            _keep_alive(response)
            while line := await response.content.readline():
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    self._fail(int(event["object"]["code"]), orjson.dumps(event["object"]))
                yield event["type"], event["object"]

    @asynccontextmanager
    async def _get(self, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._api.list_namespaced_secret_without_preload_content(
            self._namespace, field_selector=f"metadata.name={self._name}", **options
        )
        async with response:
            if response.status != 200:
                self._fail(response.status, await response.read())
            yield response

    def _fail(self, status: int, body: bytes) -> NoReturn:
        raise _Expired if status == _GONE else refused(self._namespace, self._name, status, body)


@asynccontextmanager
async def _connected(place: KeySecretSettings) -> AsyncIterator[tuple[client.CoreV1Api, str]]:
    """Yield a client made of what the credentials are now, and the namespace of the Secret.

    Raises `KeyStoreError`.
    """
    configuration = client.Configuration()
    try:
        namespace = await _load_credentials(place, configuration)
    except (config.ConfigException, OSError) as error:
        way = place.kubeconfig or "the pod's account or kubectl's own kubeconfig"
        raise KeyStoreError(f"no way to the Kubernetes API by {way}: {error}") from error
    async with client.ApiClient(configuration) as connection:
        yield client.CoreV1Api(connection), place.namespace or namespace


async def _load_credentials(place: KeySecretSettings, configuration: client.Configuration) -> str:
    """Fill in the way to the API; return the namespace that the credentials are for."""
    if in_pod(place.kubeconfig, place.context):
        account = key_secret.SERVICE_ACCOUNT
        loader = InClusterConfigLoader(str(account / "token"), str(account / "ca.crt"))
        loader.load_and_set(configuration)
        return key_secret.pod_namespace()
    file = str(place.kubeconfig) if place.kubeconfig else None
    await config.load_kube_config(file, place.context, configuration, persist_config=False)
    contexts, active = config.list_kube_config_contexts(file)
    return key_secret.kubeconfig_namespace(contexts, active, place.context)


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    """Let the kernel ask for the peer of an idle watch, so that one that is gone ends it."""
    transport = response.connection.transport if response.connection else None
    if transport is None:  # the response is whole already
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _pause_s(failures: int, spread: float) -> float:
    first_s, longest_s = RETRY_S
    return float(min(first_s * 2 ** min(failures, 16), longest_s) * spread)
