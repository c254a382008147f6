"""A host that takes over many cards: it answers at once, and loads what is asked for, much at a time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from actors.codec import Message
from actors.commands import AwardPoints, OpenTenant
from actors.entry import Mark
from actors.host import Host
from actors.ids import partition_of
from actors.ports import Loaded, LoadRequest
from actors.replies import Done
from actors.terms import TenantSettings
from storage.memory_journal import MemoryJournal
from storage.postgres import reader_pool, writer_pool
from storage.postgres_store import PostgresStore
from tests.support.journal_writer import mark_of, read_all
from tests.support.many_cards import ORG, fill, seeded_card_id
from tests.support.projection import project
from tests.support.small_history import PARTITION_COUNT, History, Quiet, Teller

CARDS = 20_000
BACKLOG = 300  # cards about which the journal knows more than Postgres
AT_ONCE = 500
PARTITION = partition_of(ORG, PARTITION_COUNT)


class CountingStore(PostgresStore):
    """Notes what is loaded."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.loads: list[LoadRequest] = []

    async def load(self, partition: int, request: LoadRequest) -> Loaded:
        self.loads.append(request)
        return await super().load(partition, request)

    @property
    def cards(self) -> list[int]:
        """How many cards each load was for."""
        return [len(request.cards) for request in self.loads if request.cards]


@pytest.fixture
async def store(migrated_database: str) -> AsyncIterator[CountingStore]:
    pool = await reader_pool(migrated_database, 2)
    yield CountingStore(pool)
    await pool.close()


@asynccontextmanager
async def serving(journal: MemoryJournal, store: CountingStore) -> AsyncIterator[tuple[Host, Teller]]:
    host = Host("host-0", journal, store, Quiet(), lambda: time.time_ns() // 1_000_000, PARTITION_COUNT)
    await host.start()
    try:
        await host.adopt([PARTITION])
        yield host, Teller(host, History())
    finally:
        await host.stop()


def awards(first: int, count: int, why: str) -> list[Message]:
    """One point for each of these cards."""
    return [
        AwardPoints(ORG, f"{why}-{number}", why.encode(), seeded_card_id(number), 1)
        for number in range(first, first + count)
    ]


def resident(host: Host) -> int:
    return sum(status.cards for status in host.status())


async def test_a_host_with_many_cards_and_a_backlog_answers_before_they_are_loaded(
    store: CountingStore, migrated_database: str
) -> None:
    journal = MemoryJournal()
    writers = await writer_pool(migrated_database, 1)
    async with serving(journal, store) as (_, teller):
        await teller.do(OpenTenant(ORG, "", b"", "Many", TenantSettings("UTC", 0, ())))
        entries = await read_all(journal, PARTITION)
        await project(writers, PARTITION, Mark(), entries)
        async with writers.acquire() as connection:
            await fill(connection, CARDS, 1)
        await teller.ask(*awards(0, BACKLOG, "backlog"))
    assert mark_of((await read_all(journal, PARTITION))[-1]).seq > mark_of(entries[-1]).seq, "there is a backlog"
    store.loads.clear()

    async with serving(journal, store) as (host, teller):
        [of_the_backlog] = await teller.ask(*awards(1, 1, "first"))
        assert isinstance(of_the_backlog, Done)
        # Card 1 had 10 points, then one of the journal's that Postgres does not know of.
        assert of_the_backlog.fact.balance_after == 12  # type: ignore[union-attr]
        assert resident(host) == 1, "nothing is loaded that nobody asked for"

        store.loads.clear()
        replies = await teller.ask(*awards(BACKLOG, AT_ONCE, "many"))
        balances = [reply.fact.balance_after for reply in replies]  # type: ignore[union-attr]
        assert balances == [1 + 10 * (number % 2) for number in range(BACKLOG, BACKLOG + AT_ONCE)]
        assert store.cards == [AT_ONCE], "what is asked together is loaded together"
        assert resident(host) == 1 + AT_ONCE
    await writers.close()
