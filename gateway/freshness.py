"""Read-your-writes: whether Postgres holds what was confirmed, by whichever gateway, when a request came in.

Rules:
1. The journal's end is asked, because no gateway knows what others have confirmed; whatever was confirmed lies before
   it. That costs one question to Redis for each list.
2. Then Postgres is waited for. All of it takes 2 s at most; what cannot be found out until then counts as not fresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from actors.entry import Mark
from actors.ports import JournalError
from gateway import limits
from storage import logs
from storage.postgres import Pool


class Freshness:
    """Knows how far Postgres is. `partition` tells a tenant's partition, None before any placement is known; `tail` a
    partition's last entry in the journal (`actors.ports.Journal.tail`)."""

    def __init__(
        self, pool: Pool, partition: Callable[[str], int | None], tail: Callable[[int], Awaitable[Mark]]
    ) -> None:
        self.partition = partition
        self._pool = pool
        self._tail = tail

    async def is_fresh(self, tenant_id: str) -> bool:
        """Rule 2. Raises `StoreUnavailable`."""
        partition = self.partition(tenant_id)
        if partition is None:
            return False
        try:
            async with asyncio.timeout(limits.READ_YOUR_WRITES_WAIT_MAX_MS / 1_000):
                seq = (await self._tail(partition)).seq
                while True:
                    if await logs.is_projected(self._pool, partition, seq):
                        return True
                    await asyncio.sleep(limits.READ_YOUR_WRITES_POLL_MS / 1_000)
        except (TimeoutError, JournalError):
            return False
