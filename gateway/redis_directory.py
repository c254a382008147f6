"""`Directory` on Redis: key "mv:placement" holds the placement as JSON, channel "mv:placement" says that it changed.

Rules:
1. The key is the truth; a message only says that it is time to read it, whatever its payload.
2. After every reconnection the key is read, because a message may have been missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import structlog
from redis.exceptions import RedisError

from gateway.ports import Placement
from gateway.redis_listener import RECONNECT_MS_MAX, RedisListener, redis_client
from storage.tasks import ended

PLACEMENT_KEY: Final = "mv:placement"
PLACEMENT_CHANNEL: Final = "mv:placement"
_decode: Final = msgspec.json.Decoder(Placement).decode
_log = structlog.get_logger(__name__)


class RedisDirectory:
    """The directory. It connects at the first use, in the event loop of that use."""

    def __init__(self, url: str) -> None:
        self._redis = redis_client(url)

    async def close(self) -> None:
        """Gives back connections. Whoever iterates over `changes` has to have closed it."""
        await self._redis.aclose()

    async def placement(self) -> Placement | None:
        """See `Directory`. What cannot be read counts as absent: placement is a hint."""
        try:
            return await self._read()
        except (RedisError, OSError, TimeoutError):
            return None

    async def changes(self) -> AsyncIterator[Placement]:
        """See `Directory`. Ends when the iterator is closed."""
        changed = asyncio.Event()
        listener = RedisListener(self._redis, lambda _channel, _payload: changed.set(), changed.set)
        tasks = [asyncio.create_task(listener.run()), asyncio.create_task(listener.subscribe(PLACEMENT_CHANNEL))]
        version: int | None = None
        try:
            while True:
                await changed.wait()
                changed.clear()
                try:
                    placement = await self._read()
                except (RedisError, OSError, TimeoutError):
                    await asyncio.sleep(RECONNECT_MS_MAX / 1_000)
                    changed.set()
                    continue
                if placement is not None and placement.version != version:
                    version = placement.version
                    yield placement
        finally:
            await ended(*tasks)

    async def _read(self) -> Placement | None:
        text = await self._redis.get(PLACEMENT_KEY)
        if text is None:
            return None
        try:
            return _decode(text)
        except msgspec.DecodeError as error:
            _log.warning("placement unreadable", error=str(error))
            return None
