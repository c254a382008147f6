"""Which cards are suspended or revoked, for scanners that have to judge without a network: read from Postgres once that
is as far as what was told live.

Rules:
1. A cursor is a position in the tenant's partition: its holder knows every change up to it. To clients it is opaque.
2. `Revocations.since` answers for a position only when Postgres holds the partition up to it. So what it gives, and the
   live changes above that position (`actors.replies.CardChanges`), leave no hole between them.
3. However many wait for Postgres, a partition's place is asked once at a time, and at most `REVOCATION_READS_MAX` lists
   are read at once: two thousand scanners that come back together cost Postgres no more than a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from actors.ids import seq_of
from actors.ports import StoreUnavailable
from gateway import limits
from storage import logs
from storage.postgres import Pool


class CardList(msgspec.Struct, frozen=True):
    """Cards as they are now: `revoked` are those that may not be let in (suspended ones too), `restored` those that may
    again; credentials of a card in `serials` are dead below that serial, whatever its state. Whoever has these has all
    up to `position`, unless `has_more`: then more come after it."""

    revoked: list[str]
    restored: list[str]
    position: int
    has_more: bool
    serials: dict[str, int] = msgspec.field(default_factory=dict)


def cursor_of(position: int) -> str:
    """The cursor that stands for a position."""
    return str(position)


def position_of_cursor(cursor: str | None) -> int:
    """The position that a cursor stands for; 0, which is before everything, for what is none of ours."""
    if cursor is None or not (cursor.isascii() and cursor.isdigit()):
        return 0
    return int(cursor)


class Revocations:
    """The lists of this gateway's tenants. `partition` tells a tenant's partition, None while that is not known."""

    def __init__(self, pool: Pool, partition: Callable[[str], int | None]) -> None:
        self._pool = pool
        self._partition = partition
        self._projected: dict[int, int] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._reads = asyncio.Semaphore(limits.REVOCATION_READS_MAX)

    async def since(self, tenant_id: str, since: int, until: int, cards_max: int) -> CardList:
        """What changed after position `since`, at most `cards_max` cards; waits until Postgres holds everything up to
        `until`. With `since` 0, all cards that are not active or were issued
        again. Raises `StoreUnavailable`."""
        await self._wait_projected(tenant_id, seq_of(until))
        async with self._reads:
            found = await logs.card_states(self._pool, tenant_id, since, cards_max)
        items = found.items
        return CardList(
            [card.card_id for card in items if card.state != "active"],
            [card.card_id for card in items if card.state == "active"],
            items[-1].position if found.has_more else max([since, until, *(card.position for card in items[-1:])]),
            found.has_more,
            {card.card_id: card.serial for card in items if card.serial},
        )

    async def _wait_projected(self, tenant_id: str, seq: int) -> None:
        partition = self._partition(tenant_id)
        if partition is None:
            raise StoreUnavailable("the tenant's partition is not known yet")
        while self._projected.get(partition, -1) < seq:
            asking = self._asking.get(partition)
            if asking is None or asking.done():
                asking = self._asking[partition] = asyncio.create_task(self._ask(partition))
                asking.add_done_callback(_told)
            await asyncio.shield(asking)

    async def _ask(self, partition: int) -> None:
        """Asks how far Postgres is, after a pause if it was asked before: it is not asked without end."""
        if partition in self._projected:
            await asyncio.sleep(limits.READ_YOUR_WRITES_POLL_MS / 1_000)
        self._projected[partition] = await logs.projected_seq(self._pool, partition)


def _told(asking: asyncio.Task[None]) -> None:
    """What it raised is told to whoever waits; nobody may be left."""
    if not asking.cancelled():
        asking.exception()
