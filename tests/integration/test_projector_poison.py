"""Entries that nobody can project: their partition halts before them, says so, and no other one is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from actors.codec import encode_facts
from actors.entry import Entry, chain, sealed
from actors.facts import CardIssued, PointsPosted
from storage import projector as projector_module
from storage.memory_journal import MemoryJournal
from storage.postgres import Pool, writer_pool
from tests.support.histories import FINGERPRINT, START_MS, card_issued
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


@pytest.fixture
def partition() -> int:
    return next(partitions)


@pytest.fixture
def dsn(migrated_database: str) -> str:
    return migrated_database


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    made = await writer_pool(dsn, 3)
    yield made
    await made.close()


def broken_chain(last: Entry) -> Entry:
    return sealed(b"notthis!", last.epoch, last.seq + 1, last.at_ms, encode_facts([]))


def undecodable(last: Entry) -> Entry:
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, b"\x91\x92\x63\x01")


def of_a_newer_release(last: Entry) -> Entry:
    payload = encode_facts([])
    checksum = chain(last.checksum, 99, last.epoch, last.seq + 1, last.at_ms, payload)
    return Entry(last.epoch, last.seq + 1, last.at_ms, checksum, payload, 99)


def what_postgres_cannot_store(last: Entry) -> Entry:
    facts = encode_facts([card_issued("org_P", "card_new", "a NUL: \0")])
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, facts)


def a_number_too_large(last: Entry) -> Entry:
    facts = encode_facts(
        [CardIssued("org_P", "big", FINGERPRINT, START_MS, "card_new", "mem", "name", "gold", 1 << 63)]
    )
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, facts)


def a_card_that_exists(last: Entry) -> Entry:
    facts = encode_facts([card_issued("org_P", "card_old", "again")])
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, facts)


def posting(card_id: str, entry_seq: int, amount: int, balance_after: int) -> PointsPosted:
    return PointsPosted(
        *(
            "org_P",
            "",
            b"",
            START_MS,
            card_id,
            "name",
            entry_seq,
            "award",
            amount,
            balance_after,
            "request",
            "",
            "",
            "",
        ),
        *(0, 5, 0, 0),
    )


def a_posting_to_no_card(last: Entry) -> Entry:
    facts = encode_facts([posting("card_absent", 1, 5, 5)])
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, facts)


def a_posting_that_leaves_one_out(last: Entry) -> Entry:
    facts = encode_facts([posting("card_old", 2, 5, 5)])
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, facts)


def a_balance_out_of_nothing(last: Entry) -> Entry:
    facts = encode_facts([posting("card_old", 1, 5, 1_000_005)])
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, facts)


def two_postings_that_do_not_follow(last: Entry) -> Entry:
    facts = encode_facts([posting("card_old", 1, 5, 5), posting("card_old", 3, 5, 10)])
    return sealed(last.checksum, last.epoch, last.seq + 1, last.at_ms, facts)


POISONS = (
    broken_chain,
    undecodable,
    of_a_newer_release,
    what_postgres_cannot_store,
    a_number_too_large,
    a_card_that_exists,
    a_posting_to_no_card,
    a_posting_that_leaves_one_out,
    a_balance_out_of_nothing,
    two_postings_that_do_not_follow,
)


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
@pytest.mark.parametrize("is_read_alone", [False, True], ids=["amid_others", "alone"])
async def test_poison_halts_its_partition_before_it_and_no_other(
    pool: Pool, partition: int, poison: Callable[[Entry], Entry], is_read_alone: bool
) -> None:
    journal = MemoryJournal()
    ill, well = Source(journal, partition), Source(journal, next(partitions))
    await ill.write(5)
    await ill.append_facts([card_issued("org_P", "card_old", "name")])
    healthy = list(ill.entries)
    async with projecting(journal, pool, [ill.partition, well.partition]) as projector:
        if is_read_alone:
            await wait_projected(projector, ill)
        bad = poison(ill.entries[-1])
        journal._stream(partition).write(bad)  # no writer of ours would
        journal._stream(partition).write(sealed(bad.checksum, bad.epoch, bad.seq + 1, bad.at_ms, encode_facts([])))
        await wait_until(lambda: bool(status(projector, partition).halted), "halts")
        assert f"{bad.epoch}-{bad.seq}" in status(projector, partition).halted
        await well.write(20)
        await wait_projected(projector, well)
        assert status(projector, partition).seq == healthy[-1].seq
    await assert_postgres_holds(pool, ill, healthy)
    await assert_postgres_holds(pool, well)
    async with projecting(journal, pool, [partition]) as successor:
        await wait_until(lambda: bool(status(successor, partition).halted), "a new one halts, too")
    await assert_postgres_holds(pool, ill, healthy)


async def test_the_first_of_two_poisons_is_the_one_that_halts(pool: Pool, partition: int) -> None:
    """The second is seen first: decoding comes before writing."""
    journal = MemoryJournal()
    source = Source(journal, partition)
    await source.write(5)
    healthy = list(source.entries)
    first = what_postgres_cannot_store(healthy[-1])
    journal._stream(partition).write(first)
    journal._stream(partition).write(undecodable(first))
    async with projecting(journal, pool, [partition]) as projector:
        await wait_until(lambda: bool(status(projector, partition).halted), "halts")
        assert status(projector, partition).halted.startswith(f"PoisonEntry: {first.epoch}-{first.seq}:")
    await assert_postgres_holds(pool, source, healthy)


@pytest.mark.parametrize("table", ["tenants", "cards", "lots", "events", "attendance", "day_scores"])
async def test_a_row_newer_than_the_journal_halts(pool: Pool, partition: int, table: str) -> None:
    journal = MemoryJournal()
    source = Source(journal, partition)
    await source.write(20)
    async with projecting(journal, pool, [partition]) as projector:
        await wait_projected(projector, source)
        await pool.execute(f"UPDATE {table} SET position = position + (1::bigint << 40)")
        await source.write(40)
        await wait_until(lambda: table in status(projector, partition).halted, "halts")


async def test_a_journal_that_lost_what_was_projected_halts(pool: Pool, partition: int) -> None:
    journal = MemoryJournal()
    source = Source(journal, partition)
    await source.write(10)
    async with projecting(journal, pool, [partition]) as projector:
        await wait_projected(projector, source)
    shorter = MemoryJournal()
    for entry in source.entries[:5]:
        shorter._stream(partition).write(entry)
    async with projecting(shorter, pool, [partition]) as projector:
        await wait_until(lambda: "JournalCorrupt" in status(projector, partition).halted, "halts")


async def test_a_journal_trimmed_beyond_postgres_halts(pool: Pool, partition: int) -> None:
    journal = MemoryJournal()
    source = Source(journal, partition)
    await source.write(10)
    await journal.trim(partition, mark_of(source.entries[6]))
    async with projecting(journal, pool, [partition]) as projector:
        await wait_until(lambda: "trimmed" in status(projector, partition).halted, "halts")
        assert status(projector, partition).seq == 0


async def test_a_bug_halts_its_partition_only(pool: Pool, partition: int, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = MemoryJournal()
    ill, well = Source(journal, partition), Source(journal, next(partitions))
    await ill.write(5)
    await well.write(5)
    real_add = projector_module.add

    def add(batch: Any, entry: Entry) -> None:
        if batch.partition == partition:
            raise ZeroDivisionError("a bug, says the test")
        real_add(batch, entry)

    monkeypatch.setattr(projector_module, "add", add)
    async with projecting(journal, pool, [ill.partition, well.partition]) as projector:
        await wait_projected(projector, well)
        await wait_until(lambda: "ZeroDivisionError" in status(projector, partition).halted, "halts")
