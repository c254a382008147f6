"""`LiveSource` on Redis pub/sub: channel "mv:live:<tenant>:<topic>", payload `actors.codec.encode_digest`.

What is lost while Redis is away the consumer finds by the offset (`gateway.live_hub`, rule 3).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import structlog

from actors.codec import decode_digest
from actors.replies import Digest
from gateway.memory_live import DigestQueue
from gateway.redis_listener import RedisListener, redis_client
from storage.tasks import ended

CHANNEL_PREFIX: Final = "mv:live:"
_log = structlog.get_logger(__name__)


def channel_of(tenant_id: str, topic: str) -> str:
    """The channel on which a topic is published."""
    return f"{CHANNEL_PREFIX}{tenant_id}:{topic}"


class RedisLiveSource:
    """The source. It connects at the first use, in the event loop of that use."""

    def __init__(self, url: str) -> None:
        self._redis = redis_client(url)
        self._listener = RedisListener(self._redis, self._take)
        self._digests = DigestQueue()
        self._running: asyncio.Task[None] | None = None

    async def subscribe(self, tenant_id: str, topic: str) -> None:
        """See `LiveSource`. Waits for as long as Redis is away."""
        self._start()
        await self._listener.subscribe(channel_of(tenant_id, topic))

    async def unsubscribe(self, tenant_id: str, topic: str) -> None:
        """See `LiveSource`."""
        await self._listener.unsubscribe(channel_of(tenant_id, topic))

    def digests(self) -> AsyncIterator[Digest]:
        """See `LiveSource`. One consumer."""
        self._start()
        return aiter(self._digests)

    async def close(self) -> None:
        """Gives the connection back and ends `digests`."""
        if self._running is not None:
            await ended(self._running)
        self._digests.close()
        await self._redis.aclose()

    def _start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._listener.run())

    def _take(self, channel: str, payload: bytes) -> None:
        """A digest that cannot be read, or that is not this channel's, is dropped like a lost one: the hub asks for
        it."""
        try:
            digest = decode_digest(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("live digest unreadable", channel=channel, error=str(error))
            return
        if channel_of(digest.tenant_id, digest.topic) != channel:
            _log.warning("live digest on another's channel", channel=channel)
            return
        self._digests.put(digest)
