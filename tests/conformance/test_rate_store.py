"""What `gateway.rates.RateStore` promises, held against every implementation; and what Redis adds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from gateway.memory_rates import MemoryRates
from gateway.rates import Ask, Rate, RateStore, RateStoreAway
from gateway.redis_rates import KEY_PREFIX, RedisRates
from tests.support.tcp_proxy import TcpProxy

# So slow that nothing comes back while a test runs.
SLOW = Rate.parse("1/h burst 5")
HOUR_US = 3_600_000_000
_keys = count(1)


@pytest.fixture
def key() -> str:
    return f"test:{next(_keys)}:{time.time_ns()}"


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[RateStore]:
    if request.param == "memory":
        yield MemoryRates(lambda: time.monotonic_ns() // 1_000, 1_000)
        return
    redis = RedisRates(request.getfixturevalue("redis_url"))
    yield redis
    await redis.close()


@pytest.fixture
async def redis_rates(redis_url: str) -> AsyncIterator[RedisRates]:
    redis = RedisRates(redis_url)
    yield redis
    await redis.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def taken(store: RateStore, key: str, cost: int = 1, rate: Rate = SLOW) -> Any:
    return (await store.take([Ask(key, rate, cost)]))[0]


class TestTake:
    async def test_a_burst_passes_and_no_more(self, store: RateStore, key: str) -> None:
        grants = [await taken(store, key) for _ in range(6)]
        assert [grant.granted for grant in grants] == [1, 1, 1, 1, 1, 0]
        assert [grant.remaining for grant in grants] == [4, 3, 2, 1, 0, 0]
        assert [grant.retry_after_us for grant in grants[:5]] == [0] * 5
        assert HOUR_US - 60_000_000 < grants[5].retry_after_us <= HOUR_US
        assert 5 * HOUR_US - 60_000_000 < grants[5].reset_us <= 5 * HOUR_US

    async def test_n_operations_count_n(self, store: RateStore, key: str) -> None:
        assert (await taken(store, key, 3)).remaining == 2
        refused = await taken(store, key, 3)
        assert (refused.granted, refused.remaining) == (0, 2)
        assert (await taken(store, key, 2)).granted == 2

    async def test_a_refused_operation_uses_up_nothing_of_any_key(self, store: RateStore, key: str) -> None:
        await taken(store, key + "b", 5)
        for _ in range(3):
            one, two = await store.take([Ask(key + "a", SLOW), Ask(key + "b", SLOW)])
            assert (one.granted, one.retry_after_us, one.remaining) == (0, 0, 5)
            assert two.granted == 0
            assert two.retry_after_us > 0
        assert (await taken(store, key + "a")).remaining == 4

    async def test_at_the_same_time_no_more_pass_than_one_by_one(self, store: RateStore, key: str) -> None:
        grants = await asyncio.gather(*(taken(store, key) for _ in range(40)))
        assert sum(grant.granted for grant in grants) == 5

    async def test_it_comes_back_with_time(self, store: RateStore, key: str) -> None:
        rate = Rate.parse("100/s burst 1")
        passed = 0
        async with asyncio.timeout(10):
            while passed < 5:
                passed += (await taken(store, key, 1, rate)).granted

    async def test_a_cost_above_the_burst_needs_all_of_it_and_leaves_a_debt(self, store: RateStore, key: str) -> None:
        assert (await taken(store, key, 8)).granted == 8
        refused = await taken(store, key)
        assert refused.retry_after_us > 3 * HOUR_US
        await taken(store, key + "b")
        assert (await taken(store, key + "b", 8)).granted == 0

    async def test_what_is_given_back_can_be_used_again(self, store: RateStore, key: str) -> None:
        await taken(store, key, 5)
        await taken(store, key, -2)
        assert (await taken(store, key, 2)).granted == 2
        assert (await taken(store, key)).granted == 0
        await taken(store, key, -100)
        assert (await taken(store, key, 5)).granted == 5
        assert (await taken(store, key)).granted == 0

    async def test_another_rate_goes_on_from_where_the_key_is(self, store: RateStore, key: str) -> None:
        await taken(store, key, 5)
        assert (await taken(store, key, 1, Rate.parse("1/h burst 6"))).remaining == 0


class TestTakeSome:
    async def test_it_gives_what_there_is(self, store: RateStore, key: str) -> None:
        one, two = await store.take_some([Ask(key + "a", SLOW, 3), Ask(key + "b", SLOW, 9)])
        assert (one.granted, one.remaining, one.retry_after_us) == (3, 2, 0)
        assert (two.granted, two.remaining) == (5, 0)
        assert HOUR_US - 60_000_000 < two.retry_after_us <= HOUR_US

    async def test_it_counts_with_take(self, store: RateStore, key: str) -> None:
        await taken(store, key, 4)
        (grant,) = await store.take_some([Ask(key, SLOW, 3)])
        assert grant.granted == 1
        assert (await taken(store, key)).granted == 0


class TestRedis:
    async def test_keys_expire_when_nothing_is_used_up(self, redis_rates: RedisRates, client: Redis, key: str) -> None:
        await taken(redis_rates, key, 2)
        assert 2 * 3_600_000 - 60_000 < await client.pttl(KEY_PREFIX + key) <= 2 * 3_600_000
        await taken(redis_rates, key, -2)
        assert not await client.exists(KEY_PREFIX + key)

    async def test_gateways_count_together(self, redis_rates: RedisRates, redis_url: str, key: str) -> None:
        other = RedisRates(redis_url)
        await taken(redis_rates, key, 3)
        assert (await taken(other, key, 2)).remaining == 0
        await other.close()

    async def test_a_clock_that_was_set_back_locks_nobody_out(
        self, redis_rates: RedisRates, client: Redis, key: str
    ) -> None:
        rate = Rate.parse("10/s burst 1")
        await client.set(KEY_PREFIX + key, (time.time_ns() // 1_000) + 24 * HOUR_US)
        refused = await taken(redis_rates, key, 1, rate)
        assert refused.granted == 0
        assert refused.retry_after_us <= 200_000

    async def test_scripts_that_were_flushed_are_loaded_again(
        self, redis_rates: RedisRates, client: Redis, key: str
    ) -> None:
        await taken(redis_rates, key)
        await client.script_flush()
        assert (await taken(redis_rates, key)).remaining == 3

    async def test_what_is_no_count_is_no_crash(self, redis_rates: RedisRates, client: Redis, key: str) -> None:
        await client.set(KEY_PREFIX + key, "rubbish")
        with pytest.raises(RateStoreAway):
            await taken(redis_rates, key)

    async def test_a_redis_that_is_away_is_said_to_be_and_comes_back(self, redis_url: str, key: str) -> None:
        port = urlsplit(redis_url).port
        assert port is not None
        async with TcpProxy("127.0.0.1", port) as proxy:
            store = RedisRates(redis_url.replace(f":{port}", f":{proxy.port}"))
            await taken(store, key)
            for lost in (proxy.cut, proxy.half_open):
                proxy.is_refusing = True
                lost()
                with pytest.raises(RateStoreAway):
                    await taken(store, key)
                proxy.is_refusing = False
                proxy.heal()
                assert await passes_again(store, key)
            await store.close()


async def passes_again(store: RateStore, key: str) -> bool:
    """Connections from before are found to be dead one by one."""
    for _ in range(20):
        with suppress(RateStoreAway):
            return (await taken(store, key)).granted == 1
    return False


class TestMemory:
    async def test_the_table_is_bounded_and_forgets_what_is_over_first(self) -> None:
        now_us = [1_000_000]
        store = MemoryRates(lambda: now_us[0], 8)
        for number in range(4):
            await taken(store, f"over-{number}", rate=Rate.parse("1000/s burst 5"))
        for number in range(4):
            await taken(store, f"kept-{number}", 5)
        now_us[0] += 1_000_000
        await taken(store, "one-more", 5)
        assert len(store) == 5
        assert (await taken(store, "kept-0")).granted == 0
        for number in range(100):
            await taken(store, f"flood-{number}", 5)
        assert len(store) <= 8
        assert (await taken(store, "flood-99")).granted == 0
