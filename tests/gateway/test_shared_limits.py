"""Gateway processes that share their limits in a real Redis, behind the official client."""

import asyncio
import logging
import re
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
from tests.gateway.upstream import Upstream, chat_usage, completion, respond
from tests.redis_servers import RedisServer, StartRedis

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.integration

QUESTION: Any = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Say hello"}]}


@dataclass
class SharedGateway:
    """One of several gateway processes."""

    client: openai.AsyncOpenAI
    http: aiohttp.ClientSession
    admin: str
    upstream: Upstream

    async def ask(self, key: str | None = None, **changes: Any) -> dict[str, str]:
        """Ask through the official client; return the headers of the answer."""
        client = self.client if key is None else self.client.with_options(api_key=key)
        answer = await client.chat.completions.with_raw_response.create(**{**QUESTION, **changes})
        return dict(answer.headers)

    async def refused(self, key: str | None = None, **changes: Any) -> openai.RateLimitError:
        """Ask, and be refused for a limit."""
        with pytest.raises(openai.RateLimitError) as error:
            await self.ask(key, **changes)
        return error.value

    async def metric(self, sample: str) -> float:
        """Return a metric's value, by its line's beginning; 0 where there is none."""
        async with self.http.get(f"{self.admin}/metrics") as response:
            lines = (await response.text()).splitlines()
        found = [line for line in lines if line.startswith(f"{sample} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0

    async def degraded(self) -> bool:
        """Whether the gateway says that it decides alone."""
        return await self.metric("gptoss_limiter_degraded") == 1

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
            return SharedGateway(client, http, admin, upstream)

        yield begin


def limits(server: RedisServer, *, timeout_ms: float = 2000, **defaults: Any) -> dict[str, Any]:
    """Return the section of the settings that shares limits in ``server``, with time for a busy machine."""
    redis = server.settings(timeout_ms=timeout_ms).model_dump(mode="json", exclude_defaults=True)
    return {"store": "redis", "redis": redis, "defaults": defaults}


async def test_gateways_share_a_limit(gateways: StartGateway, redis_server: RedisServer) -> None:
    """What one gateway admits is missing at the other, and both tell the same in OpenAI's headers."""
    first = await gateways(**limits(redis_server, requests_per_min=3))
    second = await gateways(**limits(redis_server, requests_per_min=3))
    left = [(await one.ask())["x-ratelimit-remaining-requests"] for one in (first, second, first)]
    assert left == ["2", "1", "0"]
    for one in (first, second):
        refused = await one.refused()
        headers = refused.response.headers
        assert refused.code == "rate_limit_exceeded"
        assert 1 <= int(headers["retry-after"]) <= 20
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == (
            "3",
            "0",
        )


async def test_a_gateway_goes_on_without_redis(gateways: StartGateway, start_redis: StartRedis) -> None:
    """When Redis dies requests go on under this gateway's share, and a metric says so until it is back."""
    server = start_redis(appendonly="yes")
    gateway = await gateways(**limits(server, timeout_ms=50, requests_per_min=5))
    await gateway.ask()
    assert await gateway.shared()
    server.end(signal.SIGKILL)
    await gateway.ask()
    assert await gateway.degraded()
    server.start()
    await until(gateway.shared)
    assert (await gateway.ask())["x-ratelimit-remaining-requests"] == "2"


async def test_gateways_divide_a_limit_without_redis(gateways: StartGateway, start_redis: StartRedis) -> None:
    """Two gateways that lose their Redis have half of each limit to give, and each says so."""
    server = start_redis()
    both = [await gateways(**limits(server, timeout_ms=50, requests_per_min=6)) for _ in range(2)]
    with server.client() as client:
        seconds, _ = client.time()

        async def known_to_both() -> bool:
            beats: list[tuple[bytes, float]] = client.zrange("gptoss:gateways", 0, -1, withscores=True)
            return len(beats) == 2 and all(at_us > (seconds + 1) * 1e6 for _, at_us in beats)

        await until(known_to_both)
    server.end(signal.SIGKILL)
    for one in both:
        left = [(await one.ask())["x-ratelimit-remaining-requests"] for _ in range(3)]
        assert left == ["2", "1", "0"]
        assert (await one.refused()).response.headers["x-ratelimit-limit-requests"] == "3"
        assert await one.degraded()


async def test_headers_are_openais(gateways: StartGateway, redis_server: RedisServer, tmp_path: Path) -> None:
    """Until a limit is full is told as Go writes it, of an answer and of a refusal by the other gateway."""
    keys = {
        name: write_key(tmp_path / "keys", name, limits={"requests_per_min": number})
        for name, number in (("swift", 5000), ("steady", 60), ("rare", 1))
    }
    first, second = [await gateways(**limits(redis_server)) for _ in range(2)]
    full_in = {name: (await first.ask(key))["x-ratelimit-reset-requests"] for name, key in keys.items()}
    assert full_in == {"swift": "12ms", "steady": "1s", "rare": "1m0s"}
    headers = (await second.refused(keys["rare"])).response.headers
    assert re.fullmatch(r"5\d(\.\d{1,3})?s", headers["x-ratelimit-reset-requests"])
    assert 50 <= int(headers["retry-after"]) <= 60
    assert 50_000 <= int(headers["retry-after-ms"]) <= 60_000
    assert "x-should-retry" not in headers


async def test_a_debt_is_waited_for_two_minutes_at_most(
    gateways: StartGateway, redis_server: RedisServer, tmp_path: Path
) -> None:
    """What one gateway's answer took too much is owed at the other; ``retry-after`` is one to heed."""
    key = write_key(tmp_path / "keys", "debtor", limits={"tokens_per_min": 100})
    first, second = [await gateways(**limits(redis_server)) for _ in range(2)]
    first.upstream.then(respond(200, {**completion(), "usage": chat_usage(reasoning=600, answer=90)}))
    await first.ask(key, max_completion_tokens=1)
    headers = (await second.refused(key, max_completion_tokens=1)).response.headers
    assert re.fullmatch(r"6m5\d(\.\d{1,3})?s", headers["x-ratelimit-reset-tokens"])
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("100", "0")
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("120", "120000")


async def test_a_spent_budget_is_refused_everywhere_until_midnight(
    gateways: StartGateway, redis_server: RedisServer, tmp_path: Path
) -> None:
    """It is one effort's alone, is not asked for again by the official client, and outlives the gateways."""
    key = write_key(tmp_path / "keys", "frugal", limits={"tokens_per_day": {"low": 200}})
    first, second = [await gateways(**limits(redis_server)) for _ in range(2)]
    first.upstream.then(respond(200, {**completion(), "usage": chat_usage(reasoning=100, answer=89)}))
    await first.ask(key, reasoning_effort="low")
    second.client = second.client.with_options(max_retries=3)
    refused = await second.refused(key, reasoning_effort="low")
    assert (refused.code, refused.response.headers["x-should-retry"]) == ("insufficient_quota", "false")
    assert not {"retry-after", "retry-after-ms"} & set(refused.response.headers)
    assert await second.metric('gptoss_limit_rejections_total{limit="budget"}') == 1
    await second.ask(key, reasoning_effort="medium")
    third = await gateways(**limits(redis_server))
    assert (await third.refused(key, reasoning_effort="low")).code == "insufficient_quota"


async def test_a_redis_that_evicts_is_refused(gateways: StartGateway, start_redis: StartRedis) -> None:
    """A gateway does not start on a Redis that may drop limits, and says what to do."""
    server = start_redis(maxmemory="10mb", maxmemory_policy="allkeys-lru")
    with pytest.raises(AssertionError) as ended:
        await gateways(**limits(server, requests_per_min=5))
    assert "CONFIG SET maxmemory-policy noeviction" in str(ended.value)


async def test_a_rush_on_four_gateways_gets_the_limit_and_not_one_more(
    gateways: StartGateway, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Of a thousand requests at once, twenty times, as many pass as burst and refill allow, or one fewer.

    One request goes before each rush and some follow it until one is refused. Redis' own time, read around
    the first and the last, says between which bounds the time from the first to the last decision lies. Until
    the rush is there the bucket may fill up again, and then keeps no more. The gateways are patient: a Redis
    that waits for a core, as beside so many processes, is slow, and they would decide by their shares.
    """
    runs, crowd, per_min = 20, 1000, 300
    admitted: list[tuple[int, int, int]] = []
    keys = [write_key(tmp_path / "keys", f"team-{run}") for run in range(runs)]
    shared = limits(redis_server, requests_per_min=per_min)
    made = [await gateways(**shared) for _ in range(4)]
    urls = [f"{one.client.base_url}chat/completions" for one in made]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=crowd)) as rush:

        async def ask(url: str, key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            async with rush.post(url, json=QUESTION, headers=headers) as response:
                await response.read()
                if not begun_us:
                    begun_us.append(_now_us(redis_server))
                return response.status

        for key in keys:
            begun_us, earliest_us = [0], _now_us(redis_server)
            statuses = [await ask(urls[0], key)]
            begun_us.clear()
            statuses += await asyncio.gather(*(ask(urls[number % 4], key) for number in range(crowd)))
            while statuses[-1] != 429 or len(statuses) == crowd + 1:
                last_us = _now_us(redis_server)
                statuses.append(await ask(urls[0], key))
            elapsed_us = range(last_us - begun_us[0], _now_us(redis_server) - earliest_us)
            assert set(statuses) == {200, 429}
            fewest, most = [
                per_min * (60_000_000 + us) // 60_000_000 for us in (elapsed_us.start, elapsed_us.stop)
            ]
            admitted.append((fewest - 1, statuses.count(200), most))
    logger.info("fewest, admitted and most: %s", admitted)
    assert all(fewest <= passed <= most for fewest, passed, most in admitted), admitted
    assert not any([await one.degraded() for one in made])


def _now_us(server: RedisServer) -> int:
    with server.client() as client:
        seconds, microseconds = client.time()
    return int(seconds) * 1_000_000 + int(microseconds)
