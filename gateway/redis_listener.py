"""A Redis pub/sub connection that comes back by itself and subscribes again to all it had.

Rules:
1. `subscribe` returns once the server has confirmed; what is published after that is delivered while the connection
   lives.
2. What is published while the connection is down is lost (Redis keeps nothing). `on_connect` tells that this may have
   happened.
3. A connection over which nothing comes, not even the answer to a ping, for two `QUIET_MS` is taken for dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

QUIET_MS: Final = 3_000
CONNECT_TIMEOUT_MS: Final = 2_000
RECONNECT_MS_MIN: Final = 50
RECONNECT_MS_MAX: Final = 2_000
# Subscribed always, because a pub/sub connection needs one channel; nobody publishes on it.
_ANCHOR: Final = "mv:anchor"
_DOWN: Final = (RedisError, OSError, TimeoutError)
_log = structlog.get_logger(__name__)


def redis_client(url: str) -> Redis:
    """A client that answers in bytes, gives up quickly and leaves trying again to its user."""
    timeout_s = CONNECT_TIMEOUT_MS / 1_000
    return Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0))


class RedisListener:
    """The connection. `run` must be running; the callbacks must not raise."""

    def __init__(
        self, redis: Redis, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None] = lambda: None
    ) -> None:
        self._redis = redis
        self._on_message = on_message
        self._on_connect = on_connect
        self._confirmed: dict[str, asyncio.Event] = {}
        self._link: Any = None

    async def subscribe(self, channel: str) -> None:
        """Adds a channel; waits for the server's confirmation, for as long as it takes."""
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        if self._link is not None:
            with suppress(*_DOWN):  # `run` sees it too, and subscribes again
                await self._link.subscribe(channel)
        await confirmed.wait()

    async def unsubscribe(self, channel: str) -> None:
        """Takes a channel away."""
        if self._confirmed.pop(channel, None) is not None and self._link is not None:
            with suppress(*_DOWN):
                await self._link.unsubscribe(channel)

    async def run(self) -> None:
        """Connects, reads, and connects again, until cancelled."""
        pause_ms = RECONNECT_MS_MIN
        while True:
            try:
                async with self._redis.pubsub() as link:
                    await self._subscribe_all(link)
                    self._on_connect()
                    await self._read(link)
            except _DOWN as error:
                _log.warning("pub/sub connection lost", error=repr(error), retry_ms=pause_ms)
            finally:
                was_up, self._link = self._link is not None, None
                for confirmed in self._confirmed.values():
                    confirmed.clear()
            pause_ms = RECONNECT_MS_MIN if was_up else min(2 * pause_ms, RECONNECT_MS_MAX)
            await asyncio.sleep(pause_ms / 1_000)

    async def _subscribe_all(self, link: Any) -> None:
        """All channels, also those that are asked for while this is under way; after it `subscribe` uses the link."""
        missing = [_ANCHOR, *self._confirmed]
        sent: set[str] = set()
        while missing:
            await link.subscribe(*missing)
            sent.update(missing)
            missing = [channel for channel in self._confirmed if channel not in sent]
        self._link = link

    async def _read(self, link: Any) -> None:
        is_pinged = False
        while True:
            message = await link.get_message(timeout=QUIET_MS / 1_000)
            if message is None:
                if is_pinged:
                    raise TimeoutError("no answer to a ping")
                is_pinged = True
                await link.ping()
                continue
            is_pinged = False
            if message["type"] == "message":
                self._on_message(message["channel"].decode(), message["data"])
            elif message["type"] == "subscribe":
                confirmed = self._confirmed.get(message["channel"].decode())
                if confirmed is not None:
                    confirmed.set()
