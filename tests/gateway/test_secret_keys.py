"""A gateway process whose keys are in a Kubernetes Secret: its start, onboarding, and revocations in time."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from cluster.settings import KeySecretSettings, Scopes
from cluster.stores.admin import NewSecret, create_key, revoke_key, set_tenant
from cluster.stores.secret_vault import SecretVault
from tests.gateway.test_server import PEPPER, Running, document, gateway, start, until, wait_ready
from tests.gateway.upstream import Upstream, completion, respond
from tests.kube.api import KubernetesApi

pytestmark = pytest.mark.integration

REVOKED = 20
"""Keys that are revoked one after the other."""
BOUND_S = 5.0
"""Seconds within which a revocation is in force."""


@dataclass
class Site:
    """An API with the Secret, and what a gateway is told to find it."""

    api: KubernetesApi
    settings: dict[str, Any]
    upstream: Upstream
    vault: SecretVault

    async def act(self, act: Any, *given: Any, **named: Any) -> Any:
        """Run an administrative act, as the commands do."""
        return await asyncio.to_thread(act, self.vault, *given, now=datetime.now(UTC), **named)

    async def onboard(self, team: str, count: int) -> list[NewSecret]:
        """Set a tenant and make keys of it."""
        await self.act(set_tenant, team, scopes=Scopes(max_effort="medium"))
        return [await self.act(create_key, team, pepper=PEPPER) for _ in range(count)]


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Return an API that runs, with an empty Secret."""
    upstream, api = Upstream(), KubernetesApi()
    upstream.then(respond(200, completion()))
    api.put("serving", "keys", {})
    await api.start()
    kubeconfig = api.kubeconfig(folder / "kubeconfig")
    made = document(folder, await upstream.start())
    made["auth"]["keys"] = {"source": "kubernetes", "secret": "keys", "kubeconfig": str(kubeconfig)}
    vault = SecretVault(KeySecretSettings(secret="keys", kubeconfig=kubeconfig))
    yield Site(api, made, upstream, vault)
    await api.stop()
    await upstream.stop()


async def refused_after_s(running: Running, key: str) -> float:
    """Ask with a key until it is refused; return how many seconds that took."""
    begun, headers = time.monotonic(), {"authorization": f"Bearer {key}"}
    while True:
        async with running.http.get(f"{running.api}/v1/models", headers=headers) as response:
            if response.status != 200:
                assert response.status in (401, 429)  # 429: after many wrong ones from here
                return time.monotonic() - begun


def quantile(values: list[float], share: float) -> float:
    """Return the least value that ``share`` of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


async def revocations(place: Site, running: Running, keys: list[NewSecret]) -> list[float]:
    """Revoke keys that are served; return for each the seconds from the API's answer to the first refusal."""
    waits = []
    for one in keys:
        assert await running.serves(one.key)
        await place.act(revoke_key, one.record.id)
        waits.append(await refused_after_s(running, one.key))
    return waits


async def test_onboarding_and_revocation_need_no_restart(tmp_path: Path) -> None:
    """A new team is served, a revoked key refused within the bound, and an API that is away harms nobody."""
    async with site(tmp_path) as place, gateway(place.settings, tmp_path, place.upstream, key="") as running:
        keys = await place.onboard("ads", REVOKED + 1)
        await until(partial(running.serves, keys[-1].key))
        waits = await revocations(place, running, keys[:-1])
        assert quantile(waits, 0.99) < BOUND_S
        await place.api.stop()
        assert await running.serves(keys[-1].key)
        assert not await running.serves(keys[0].key)
        assert (await running.get("/readyz"))[0] == 200


async def test_a_gateway_without_its_keys_is_not_ready_and_blames_nobody(tmp_path: Path) -> None:
    """Until the first list has come every key gets 503, and then its due."""
    async with site(tmp_path) as place:
        (key,) = await place.onboard("ads", 1)
        place.api.hang(True)
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(place.settings))
        process = await start(config)
        api, admin = (f"http://{place.settings['gateway'][name]}" for name in ("listen", "admin_listen"))
        async with aiohttp.ClientSession() as http:
            running = Running(process, api, admin, key.key, tmp_path, http, place.upstream)
            await until(partial(alive, running))
            assert await running.get("/readyz") == (503, "keys are not loaded\n")
            for _ in range(30):
                async with running.post() as response:
                    assert response.status == 503
                    assert response.headers["retry-after"] == "1"
                    assert (await response.json())["error"]["code"] == "keys_not_loaded"
            place.api.hang(False)
            await asyncio.wait_for(wait_ready(http, admin, process), 30)
            assert await running.serves(key.key)
            assert await running.refuses("unknown")
        process.terminate()
        assert (await running.end())[0] == 0


async def alive(running: Running) -> bool:
    """Whether the process answers yet."""
    try:
        return (await running.get("/livez"))[0] == 200
    except aiohttp.ClientConnectionError:
        return False
