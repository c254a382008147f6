"""The projector on a real Postgres: exactly once and in order, whatever breaks. What cannot be projected at all is in
`test_projector_poison.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from actors.entry import Entry, Mark
from actors.ports import Journal, JournalGap, OutcomeUnknown
from storage import postgres as postgres_module
from storage import projector as projector_module
from storage.embedded_postgres import EmbeddedPostgres
from storage.memory_journal import MemoryJournal
from storage.migrate import migrate
from storage.postgres import Connection, Pool, UnsafePostgres, reader_pool, require_durability, writer_pool
from storage.postgres_store import PostgresStore
from storage.process import free_port
from storage.projector import Projector
from storage.redis_journal import RedisJournal
from tests.support.faulty_pool import FaultyPool, Moment
from tests.support.histories import card_issued
from tests.support.journal_writer import mark_of
from tests.support.projecting import (
    Source,
    assert_postgres_holds,
    partitions,
    projecting,
    status,
    wait_projected,
    wait_until,
)
from tests.support.projection import project
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
def partition() -> int:
    return next(partitions)


@pytest.fixture(params=["memory", "redis"])
def redis_or_memory_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else ""


@pytest.fixture
async def journal(redis_or_memory_url: str) -> AsyncIterator[Journal]:
    made: Journal = RedisJournal(redis_or_memory_url) if redis_or_memory_url else MemoryJournal()
    yield made
    await made.close()


@pytest.fixture
def dsn(migrated_database: str) -> str:
    return migrated_database


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    made = await writer_pool(dsn, 3)
    yield made
    await made.close()


async def test_everything_arrives_once_and_in_order(journal: Journal, pool: Pool, partition: int) -> None:
    source = Source(journal, partition)
    await source.write(40)
    async with projecting(journal, pool, [partition]) as projector:
        await wait_projected(projector, source)
        for _ in range(10):
            await source.write(5)
            await asyncio.sleep(0.01)
        await wait_projected(projector, source)
        assert projector.status().entries_total == len(source.entries)
        assert status(projector, partition).lag_entries == status(projector, partition).lag_ms == 0
    await assert_postgres_holds(pool, source)
    assert await journal.projected_hint(partition) == source.entries[-1].seq


async def test_a_new_projector_goes_on_where_the_last_one_stopped(journal: Journal, pool: Pool, partition: int) -> None:
    source = Source(journal, partition)
    for _ in range(4):
        await source.write(10)
        async with projecting(journal, pool, [partition]) as projector:
            await wait_projected(projector, source)
    await assert_postgres_holds(pool, source)


async def test_a_hint_that_died_with_its_projector_is_left_by_the_next(pool: Pool, partition: int) -> None:
    """Nothing may ever be written after it: the writer would wait for the hint in vain."""
    source = Source(MemoryJournal(), partition)
    await source.write(10)
    mark = await project(pool, partition, Mark(), source.entries)
    assert await source.journal.projected_hint(partition) == 0
    async with projecting(source.journal, pool, [partition]) as projector:
        await wait_projected(projector, source)
    assert await source.journal.projected_hint(partition) == mark.seq


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_exactly_once_when_the_connection_breaks_at_any_statement(pool: Pool, moment: Moment) -> None:
    """A lost COMMIT and a lost answer to a COMMIT among them."""
    for number in range(1, await statements_of_one_transaction(pool) + 1):
        faulty = FaultyPool(pool)
        faulty.strike_at, faulty.moment = number, moment
        await project_through(faulty, pool, f"{moment} statement {number}")


async def test_exactly_once_when_the_server_ends_the_session_at_any_statement(pool: Pool, dsn: str) -> None:
    killers = await reader_pool(dsn, 1)

    async def kill(connection: Connection) -> None:
        await killers.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

    for number in range(1, await statements_of_one_transaction(pool) + 1):
        faulty = FaultyPool(pool)
        faulty.strike_at, faulty.kill = number, kill
        await project_through(faulty, pool, f"killed at statement {number}")
    await killers.close()


async def statements_of_one_transaction(pool: Pool) -> int:
    counting = FaultyPool(pool)
    await project_through(counting, pool, "without a fault")
    assert counting.statements > 12, "BEGIN, position, archive, requests, history, states, COMMIT"
    return counting.statements


async def project_through(faulty: FaultyPool, pool: Pool, what: str) -> None:
    """Projects a history, its second part in one transaction that changes rows of every table, in spite of the
    fault."""
    journal, partition = MemoryJournal(), next(partitions)
    source = Source(journal, partition, seed=7)
    await source.write(projector_module.ENTRIES_PER_READ_FIRST)
    async with projecting(journal, pool, [partition]) as projector:
        await wait_projected(projector, source)
    await source.write(projector_module.ENTRIES_PER_READ_FIRST)
    async with projecting(journal, faulty, [partition]) as projector:
        await wait_projected(projector, source)
    try:
        await assert_postgres_holds(pool, source)
    except AssertionError as error:
        error.add_note(what)
        raise


@pytest.mark.parametrize("is_new", [True, False], ids=["first_position", "next_position"])
@pytest.mark.parametrize("held_at", [1, 2], ids=["before_begin", "before_compare_and_set"])
async def test_a_zombie_with_a_stale_mark_writes_nothing(
    pool: Pool, journal: Journal, partition: int, held_at: int, is_new: bool
) -> None:
    """It stands still; another projector goes far ahead; it wakes up."""
    source = Source(journal, partition)
    await source.write(10)
    if not is_new:
        async with projecting(journal, pool, [partition]) as projector:
            await wait_projected(projector, source)
        await source.write(10)
    zombie_pool = FaultyPool(pool)
    zombie_pool.held_at = held_at
    async with projecting(journal, zombie_pool, [partition]) as zombie:
        await zombie_pool.is_held.wait()
        async with projecting(journal, pool, [partition]) as successor:
            await wait_projected(successor, source)
            await source.write(30)
            await wait_projected(successor, source)
        zombie_pool.release_held.set()
        await wait_until(lambda: status(zombie, partition).seq == source.entries[-1].seq, "reads the mark again")
        assert zombie.status().transactions_total == 0
    await assert_postgres_holds(pool, source)


async def test_two_projectors_of_one_partition_do_no_harm(pool: Pool, journal: Journal, partition: int) -> None:
    source = Source(journal, partition)
    async with projecting(journal, pool, [partition]) as one, projecting(journal, pool, [partition]) as other:
        for _ in range(30):
            await source.write(3)
            await asyncio.sleep(0.01)
        await wait_projected(one, source)
        await wait_projected(other, source)
        assert one.status().entries_total + other.status().entries_total == len(source.entries)
    await assert_postgres_holds(pool, source)


async def test_postgres_killed_and_started_again(tmp_path: Path, partition: int) -> None:
    server = EmbeddedPostgres(tmp_path, free_port())
    server.start()
    await migrate(server.url)
    pool = await writer_pool(server.url, 2)
    journal = MemoryJournal()
    source = Source(journal, partition)
    async with projecting(journal, pool, [partition]) as projector:
        for _ in range(3):
            await source.write(10)
            await wait_projected(projector, source)
            server.kill()
            await source.write(10)
            await wait_until(lambda: bool(status(projector, partition).waiting_for), "says what it waits for")
            server.start()
            await wait_projected(projector, source)
            assert not status(projector, partition).waiting_for
    await assert_postgres_holds(pool, source)
    await pool.close()
    server.stop()


async def test_a_connection_that_falls_silent(dsn: str, partition: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "WRITE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(postgres_module, "CONNECT_TIMEOUT_S", 0.5)
    account, _, rest = dsn.rpartition("@")
    address, _, name = rest.partition("/")
    journal = MemoryJournal()
    source = Source(journal, partition)
    async with TcpProxy("127.0.0.1", int(address.rpartition(":")[2])) as proxy:
        pool = await writer_pool(f"{account}@127.0.0.1:{proxy.port}/{name}", 1)
        async with projecting(journal, pool, [partition]) as projector:
            await source.write(10)
            await wait_projected(projector, source)
            proxy.half_open()
            await source.write(10)
            await wait_until(lambda: bool(status(projector, partition).waiting_for), "notices")
            assert status(projector, partition).lag_entries > 0
            assert status(projector, partition).lag_ms > 0
            proxy.heal()
            await wait_projected(projector, source)
        await assert_postgres_holds(pool, source)
        await pool.close()


async def test_in_a_rush_it_stands_back_and_then_no_more(
    pool: Pool, partition: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlogs: list[tuple[int, int]] = []

    def pause_s(worked_s: float, backlog_ms: int, backlog_bytes: int) -> float:
        backlogs.append((backlog_ms, backlog_bytes))
        return 0.05

    monkeypatch.setattr(projector_module, "pause_s", pause_s)
    monkeypatch.setattr(projector_module, "MAINTENANCE_S", 0.0)
    monkeypatch.setattr(projector_module, "FACTS_PER_S_HIGH", 0)
    journal = MemoryJournal()
    source = Source(journal, partition)
    async with projecting(journal, pool, [partition], lambda: True) as projector:
        for _ in range(20):
            await source.write(2)
            await asyncio.sleep(0.02)
        await wait_projected(projector, source)
        assert any(age_ms > 0 and size > 0 for age_ms, size in backlogs)
        assert projector.status().transactions_total < 20
        rests = len(backlogs)
        await asyncio.sleep(0.3)
        assert len(backlogs) <= rests + 1, "nothing comes any more"
    await assert_postgres_holds(pool, source)


class CountingJournal(MemoryJournal):
    """Counts the questions."""

    reads = 0
    questions = 0

    async def read(self, partition: int, after: Mark, limit: int) -> Sequence[Entry]:
        self.reads += 1
        return await super().read(partition, after, limit)

    async def tail_seqs(self, partitions: Sequence[int]) -> Sequence[int]:
        self.questions += 1
        return await super().tail_seqs(partitions)


async def test_partitions_at_rest_are_asked_for_together(
    pool: Pool, partition: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_module, "BUSY_S", 0.0)
    journal = CountingJournal()
    source = Source(journal, partition)
    others = [next(partitions) for _ in range(7)]
    async with projecting(journal, pool, [partition, *others]) as projector:
        await source.write(1)
        await wait_projected(projector, source)
        await asyncio.sleep(0.2)
        reads, questions = journal.reads, journal.questions
        await wait_until(lambda: journal.questions >= questions + 5, "questions")
        assert journal.reads == reads, "nobody asks for itself"
        await source.write(1)
        await wait_projected(projector, source)
        assert journal.reads <= reads + 2


class JournalThatFails(MemoryJournal):
    """Every other read fails, as if Redis went away and came back."""

    reads = 0

    async def read(self, partition: int, after: Mark, limit: int) -> Sequence[Entry]:
        self.reads += 1
        if self.reads % 2:
            raise OutcomeUnknown("the journal is away, says the test")
        return await super().read(partition, after, limit)

    async def note_projected(self, partition: int, projected_seq: int) -> None:
        raise OutcomeUnknown("the journal is away after the commit, says the test")


async def test_a_journal_that_comes_and_goes(pool: Pool, partition: int) -> None:
    journal = JournalThatFails()
    source = Source(journal, partition)
    await source.write(50)
    async with projecting(journal, pool, [partition]) as projector:
        await wait_projected(projector, source)
    await assert_postgres_holds(pool, source)


class WatchedJournal(MemoryJournal):
    """Asks Postgres at each trim and each hint whether it is that far, and notes where it was trimmed to."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.store = PostgresStore(pool)
        self.trims: list[Mark] = []

    async def trim(self, partition: int, projected: Mark) -> None:
        assert projected.seq <= (await self.store.position(partition)).seq
        await super().trim(partition, projected)
        self.trims.append(projected)

    async def note_projected(self, partition: int, projected_seq: int) -> None:
        assert projected_seq <= (await self.store.position(partition)).seq
        await super().note_projected(partition, projected_seq)


async def test_trimming_keeps_the_anchor_and_never_passes_the_position(
    pool: Pool, partition: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_module, "MAINTENANCE_S", 0.0)
    journal = WatchedJournal(pool)
    source = Source(journal, partition)
    faulty = FaultyPool(pool)
    async with projecting(journal, faulty, [partition]) as projector:
        for n in range(30):
            faulty.strike_at = faulty.statements + n
            faulty.moment = "after" if n % 2 else "before"
            await source.write(3)
            await wait_projected(projector, source)
        last = mark_of(source.entries[-1])
        await wait_until(lambda: journal.trims[-1:] == [last], "trims in the end")
    assert list(journal._stream(partition).entries) == source.entries[-1:]
    assert await journal.read(partition, last, 10) == []
    with pytest.raises(JournalGap):
        await journal.read(partition, mark_of(source.entries[-3]), 10)
    await assert_postgres_holds(pool, source)


async def test_trimming_is_not_done_for_every_batch(pool: Pool, partition: int) -> None:
    journal = WatchedJournal(pool)
    source = Source(journal, partition)
    async with projecting(journal, pool, [partition]) as projector:
        for _ in range(15):
            await source.write(1)
            await wait_projected(projector, source)
        assert len(journal.trims) <= 2
        assert projector.status().transactions_total == 15


async def test_large_batches_are_split(pool: Pool, partition: int) -> None:
    journal = MemoryJournal()
    source = Source(journal, partition)
    await source.write(1)
    source.author._epoch = source.entries[-1].epoch
    facts = [[card_issued(f"org_{partition}", f"card_{n}_{m}", "name") for m in range(1_000)] for n in range(12)]
    for chunk in facts:
        await source.append_facts(chunk)
    async with projecting(journal, pool, [partition]) as projector:
        await wait_projected(projector, source)
        assert projector.status().transactions_total == 3
        assert projector.status().facts_total == 12_000
        assert projector.status().facts_per_s > 0


async def test_stopping_ends_between_two_transactions(pool: Pool, partition: int) -> None:
    journal = MemoryJournal()
    source = Source(journal, partition)
    await source.write(20)
    held = FaultyPool(pool)
    held.held_at = 4
    projector = Projector(journal, held, [partition], lambda: 0)  # type: ignore[arg-type]
    task = asyncio.create_task(projector.run())
    await held.is_held.wait()
    stopping = asyncio.create_task(projector.stop())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    held.release_held.set()
    await asyncio.gather(stopping, task)
    await assert_postgres_holds(pool, source)


async def test_a_server_that_could_lose_commits_is_as_good_as_away() -> None:
    class Loose:
        async def fetch(self, query: str, names: list[str]) -> list[dict[str, str]]:
            return [{"name": name} for name in names if name == "fsync"]

    with pytest.raises(UnsafePostgres, match="fsync"):
        await require_durability(Loose())  # type: ignore[arg-type]


async def test_the_session_commits_to_disk_whatever_the_servers_default(pool: Pool) -> None:
    assert await pool.fetchval("SHOW synchronous_commit") == "on"
