"""`LiveSource` within one process: what is published is delivered, in order, to whoever subscribed before."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from actors.replies import Digest

# A consumer that far behind loses the oldest; it sees it by the offset.
DIGESTS_WAITING_MAX: Final = 10_000


class DigestQueue:
    """Digests between a source and its consumer: in order, bounded, the oldest lost first."""

    def __init__(self) -> None:
        self._waiting: deque[Digest] = deque(maxlen=DIGESTS_WAITING_MAX)
        self._wake = asyncio.Event()
        self._is_closed = False

    def put(self, digest: Digest) -> None:
        """One more."""
        self._waiting.append(digest)
        self._wake.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Ends the iteration once the queue is empty."""
        self._is_closed = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Digest]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._is_closed:
                return
            await self._wake.wait()
            self._wake.clear()


class MemoryLive:
    """The source and the way to publish to it."""

    def __init__(self) -> None:
        self._subscribed: set[tuple[str, str]] = set()
        self._digests = DigestQueue()

    def publish(self, digest: Digest) -> None:
        """What a host does with a digest."""
        if (digest.tenant_id, digest.topic) in self._subscribed:
            self._digests.put(digest)

    @property
    def is_waiting(self) -> bool:
        """Whether digests wait for the consumer."""
        return len(self._digests) > 0

    async def subscribe(self, tenant_id: str, topic: str) -> None:
        """See `LiveSource`."""
        self._subscribed.add((tenant_id, topic))

    async def unsubscribe(self, tenant_id: str, topic: str) -> None:
        """See `LiveSource`."""
        self._subscribed.discard((tenant_id, topic))

    def digests(self) -> AsyncIterator[Digest]:
        """See `LiveSource`. One consumer."""
        return aiter(self._digests)

    async def close(self) -> None:
        """Ends `digests`."""
        self._digests.close()
