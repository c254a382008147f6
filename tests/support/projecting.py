"""A running projector, and what has to be true of Postgres when it has caught up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from random import SystemRandom

from actors.codec import encode_facts
from actors.entry import Entry, Mark, is_intact, sealed
from actors.facts import Fact
from actors.ports import Journal, LoadRequest
from storage.postgres import Pool
from storage.postgres_store import PostgresStore
from storage.projector import PartitionStatus, Projector
from storage.replay import digest_of
from tests.support.histories import START_MS, Author
from tests.support.journal_writer import mark_of

# A partition (and tenants) for each test, so that stores may be shared.
partitions = count(SystemRandom().randrange(10**6, 10**9))


class Source:
    """An author whose entries go to the journal as an engine's would."""

    def __init__(self, journal: Journal, partition: int, seed: int = 1) -> None:
        self.journal = journal
        self.partition = partition
        self.author = Author(seed, (f"org_{partition}_A", f"org_{partition}_B"))
        self.entries: list[Entry] = []

    async def append(self, entry: Entry) -> None:
        previous = self.entries[-1] if self.entries else None
        if previous is None or previous.epoch != entry.epoch:
            opened = await self.journal.open(self.partition, None, entry.at_ms)
            assert opened == entry, "an entry of the author that opens an epoch is the one the journal makes"
        else:
            await self.journal.append(self.partition, entry, previous.checksum)
        self.entries.append(entry)

    async def write(self, entry_count: int) -> None:
        for entry in self.author.entries(entry_count):
            await self.append(entry)

    async def append_facts(self, facts: Sequence[Fact]) -> Entry:
        """An entry that the author knows nothing of."""
        last = self.entries[-1]
        entry = sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, encode_facts(facts))
        await self.append(entry)
        return entry


@asynccontextmanager
async def projecting(
    journal: Journal, pool: object, partitions: Sequence[int], is_busy: Callable[[], bool] = lambda: False
) -> AsyncIterator[Projector]:
    projector = Projector(journal, pool, partitions, lambda: START_MS + 60_000, is_busy)  # type: ignore[arg-type]
    task = asyncio.create_task(projector.run())
    try:
        yield projector
    finally:
        await projector.stop()
        await task


async def wait_until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"20 seconds long not: {what}")


def status(projector: Projector, partition: int) -> PartitionStatus:
    return projector.status().partitions[partition]


async def wait_projected(projector: Projector, source: Source) -> None:
    def is_there() -> bool:
        now = status(projector, source.partition)
        assert not now.halted, now
        return now.seq == source.entries[-1].seq

    await wait_until(is_there, "projected")


async def assert_postgres_holds(pool: Pool, source: Source, entries: Sequence[Entry] | None = None) -> None:
    """Position, archive, history and state are those of `entries` (all, by default), each exactly once."""
    entries = source.entries if entries is None else entries
    archive = await pool.fetch(
        "SELECT epoch, seq, at_ms, checksum, payload, version FROM journal_entries WHERE partition_id = $1"
        " ORDER BY seq",
        source.partition,
    )
    assert [Entry(*row) for row in archive] == list(entries)
    before = Mark()
    for entry in entries:
        assert is_intact(before.checksum, entry)
        before = mark_of(entry)
    assert await PostgresStore(pool).position(source.partition) == before
    if entries is source.entries:
        await assert_states(pool, source)


async def assert_states(pool: Pool, source: Source) -> None:
    author = source.author
    request = LoadRequest(
        tenants=tuple(author.world.tenants),
        cards=tuple(author.world.cards),
        events=tuple(author.world.events),
        requests=tuple(author.positions),
        ledger_entries=tuple(author.postings),
    )
    loaded = await PostgresStore(pool).load(source.partition, request)
    for found, made in (
        (loaded.tenants, author.world.tenants),
        (loaded.cards, author.world.cards),
        (loaded.events, author.world.events),
    ):
        assert {key: digest_of(state) for key, state in found.items()} == {  # type: ignore[attr-defined]
            key: digest_of(state)
            for key, state in made.items()  # type: ignore[attr-defined]
        }
    assert loaded.requests == author.positions
    assert len(loaded.ledger_entries) == len(author.postings)
    tenants = list(author.world.tenants)
    for table, expected in (
        ("ledger", len(author.postings)),
        ("requests", len(author.positions)),
        ("scans", sum(event.admitted + event.refused for event in author.world.events.values()) + exits(author)),
    ):
        assert expected == await pool.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = ANY($1)", tenants), (
            table
        )


def exits(author: Author) -> int:
    """Scans that count neither as admitted entries nor as refused."""
    facts = (fact for fact, _ in author.positions.values())
    return sum(getattr(fact, "direction", "") == "exit" and not getattr(fact, "reason", "") for fact in facts)
