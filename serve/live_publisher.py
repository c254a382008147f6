"""`actors.host.Publisher` over Redis pub/sub: live updates on their way to the gateways.

Rules:
1. Publishing never waits: digests go to a bounded queue, and a task of its own sends what has gathered in one pipeline.
2. What cannot be sent is lost, the oldest first. Subscribers see the hole by the offset and ask for a snapshot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.codec import encode_digest
from actors.replies import Digest
from gateway.redis_live import channel_of
from storage.tasks import ended

QUEUE_DIGESTS_MAX = 10_000
BATCH_DIGESTS_MAX = 500
SEND_TIMEOUT_S = 2.0

_log = structlog.get_logger(__name__)


class RedisPublisher:
    """Belongs to one event loop. `start` before use, `stop` after."""

    def __init__(self, redis_url: str) -> None:
        self._client = Redis.from_url(redis_url, socket_timeout=SEND_TIMEOUT_S, socket_connect_timeout=SEND_TIMEOUT_S)
        self._queue: deque[Digest] = deque(maxlen=QUEUE_DIGESTS_MAX)
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_away = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            await ended(self._task)
        await self._client.aclose()

    def publish(self, digests: Sequence[Digest]) -> None:
        """Queues the digests, at the price of the oldest ones when the queue is full."""
        self._queue.extend(digests)
        self._filled.set()

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                count = min(len(self._queue), BATCH_DIGESTS_MAX)
                await self._send([self._queue.popleft() for _ in range(count)])

    async def _send(self, digests: Sequence[Digest]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for digest in digests:
            pipeline.publish(channel_of(digest.tenant_id, digest.topic), encode_digest(digest))
        try:
            await pipeline.execute()
            self._is_away = False
        except (RedisError, OSError, TimeoutError) as error:
            if not self._is_away:
                _log.warning("live updates cannot be published", error=str(error))
            self._is_away = True
