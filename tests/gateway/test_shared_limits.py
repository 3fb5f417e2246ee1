"""Gateway processes that share their limits in a real Redis, behind the official client."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import yaml

from tests.gateway.test_server import document, start, until, wait_ready, write_key
from tests.gateway.upstream import Upstream, completion, respond
from tests.redis_servers import RedisServer, StartRedis

pytestmark = pytest.mark.integration

QUESTION: Any = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Say hello"}]}


@dataclass
class SharedGateway:
    """One of several gateway processes."""

    client: openai.AsyncOpenAI
    http: aiohttp.ClientSession
    admin: str

    async def ask(self) -> dict[str, str]:
        """Ask through the official client; return the headers of the answer."""
        answer = await self.client.chat.completions.with_raw_response.create(**QUESTION)
        return dict(answer.headers)

    async def degraded(self) -> bool:
        """Whether the gateway says that it decides alone."""
        async with self.http.get(f"{self.admin}/metrics") as response:
            return "gptoss_limiter_degraded 1.0" in await response.text()

    async def shared(self) -> bool:
        """Whether it does not."""
        return not await self.degraded()


StartGateway = Callable[..., Awaitable[SharedGateway]]


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[StartGateway]:
    """Return a function that starts a gateway under the limits given, before one upstream and for one key."""
    upstream = Upstream()
    url = await upstream.start()
    upstream.then(respond(200, completion()))
    (tmp_path / "keys").mkdir()
    key = write_key(tmp_path / "keys")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(upstream.stop)
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def begin(**limits: Any) -> SharedGateway:
            made = {**document(tmp_path, url, drain_s=5), "limits": limits}
            api, admin = (f"http://{made['gateway'][name]}" for name in ("listen", "admin_listen"))
            config = tmp_path / f"{api.rpartition(':')[2]}.yaml"
            config.write_text(yaml.safe_dump(made))
            process = await start(config)

            async def end() -> None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                await process.communicate()

            stack.push_async_callback(end)
            await wait_ready(http, admin, process)
            client = openai.AsyncOpenAI(base_url=f"{api}/v1", api_key=key, max_retries=0)
            stack.push_async_callback(client.close)
            return SharedGateway(client, http, admin)

        yield begin


def limits(server: RedisServer, **defaults: Any) -> dict[str, Any]:
    """Return the section of the settings that shares limits in ``server``."""
    redis = server.settings().model_dump(mode="json", exclude_defaults=True)
    return {"store": "redis", "redis": redis, "defaults": defaults}


async def test_gateways_share_a_limit(gateways: StartGateway, redis_server: RedisServer) -> None:
    """What one gateway admits is missing at the other, and both tell the same in OpenAI's headers."""
    first = await gateways(**limits(redis_server, requests_per_min=3))
    second = await gateways(**limits(redis_server, requests_per_min=3))
    left = [(await one.ask())["x-ratelimit-remaining-requests"] for one in (first, second, first)]
    assert left == ["2", "1", "0"]
    for one in (first, second):
        with pytest.raises(openai.RateLimitError) as refused:
            await one.ask()
        headers = refused.value.response.headers
        assert refused.value.code == "rate_limit_exceeded"
        assert 1 <= int(headers["retry-after"]) <= 20
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == (
            "3",
            "0",
        )


async def test_a_gateway_goes_on_without_redis(gateways: StartGateway, start_redis: StartRedis) -> None:
    """When Redis dies requests go on under this gateway's share, and a metric says so until it is back."""
    server = start_redis(appendonly="yes")
    gateway = await gateways(**limits(server, requests_per_min=5))
    await gateway.ask()
    assert await gateway.shared()
    server.end(signal.SIGKILL)
    await gateway.ask()
    assert await gateway.degraded()
    server.start()
    await until(gateway.shared)
    assert (await gateway.ask())["x-ratelimit-remaining-requests"] == "2"


async def test_a_redis_that_evicts_is_refused(gateways: StartGateway, start_redis: StartRedis) -> None:
    """A gateway does not start on a Redis that may drop limits, and says what to do."""
    server = start_redis(maxmemory="10mb", maxmemory_policy="allkeys-lru")
    with pytest.raises(AssertionError) as ended:
        await gateways(**limits(server, requests_per_min=5))
    assert "CONFIG SET maxmemory-policy noeviction" in str(ended.value)
