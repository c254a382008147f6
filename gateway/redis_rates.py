"""`RateStore` on Redis: one script for all keys of an operation (`lua/gcra.lua`), on Redis' own clock.

Rules:
1. All keys share one hash tag, `mv:{rate}:…`, so that one script may touch several of them in a cluster, too.
2. Nothing here waits long: a Redis that does not answer within `RATE_STORE_TIMEOUT_MS` counts as away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway import limits
from gateway.rates import Ask, Grant, RateStoreAway

KEY_PREFIX: Final = "mv:{rate}:"
_GCRA: Final = (Path(__file__).parent / "lua" / "gcra.lua").read_bytes()


class RedisRates:
    """The counts, shared by all gateways. It connects at the first use, in the event loop of that use."""

    def __init__(self, url: str) -> None:
        timeout_s = limits.RATE_STORE_TIMEOUT_MS / 1_000
        pool: Any = BlockingConnectionPool.from_url(
            url,
            max_connections=limits.RATE_STORE_CONNECTIONS_MAX,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis(connection_pool=pool)
        self._script = self._redis.register_script(_GCRA)

    async def close(self) -> None:
        """Gives back connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def take(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        return await self._run("all", asks)

    async def take_some(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        return await self._run("some", asks)

    async def _run(self, mode: str, asks: Sequence[Ask]) -> list[Grant]:
        if not asks:
            return []
        keys = [KEY_PREFIX + ask.key for ask in asks]
        arguments: list[str | int] = [mode]
        for ask in asks:
            arguments += (ask.rate.interval_us, ask.rate.burst, ask.cost)
        try:
            async with asyncio.timeout(limits.RATE_STORE_TIMEOUT_MS / 1_000):
                replies = await self._script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise RateStoreAway(repr(error)) from error
        return [Grant(*reply) for reply in replies]
