"""What `actors.ports.Journal` promises, held against every implementation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest

from actors.entry import EMPTY_PAYLOAD, ENTRY_PAYLOAD_BYTES_MAX, GENESIS_CHECKSUM, Entry, Mark, is_intact, sealed
from actors.ports import Fenced, Journal, JournalCorrupt, JournalError, JournalGap
from storage.memory_journal import MemoryJournal
from storage.redis_journal import RedisJournal
from tests.support.journal_writer import AT_MS, Writer, mark_of, read_all

# Each test has partitions of its own, so that a server may be shared and need not be emptied.
_partitions = count(random.SystemRandom().randrange(10**6, 10**9))


@pytest.fixture(params=["memory", "redis"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Journal]]:
    """Makes journals on one store: two of them are two processes that compete."""
    journals: list[Journal] = []
    memory = MemoryJournal()

    def make() -> Journal:
        journals.append(memory if request.param == "memory" else RedisJournal(url))
        return journals[-1]

    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    yield make
    for journal in journals:
        await journal.close()


@pytest.fixture
def journal(connect: Callable[[], Journal]) -> Journal:
    return connect()


@pytest.fixture
def rival(connect: Callable[[], Journal], journal: Journal) -> Journal:
    return connect()


@pytest.fixture
def partition() -> int:
    return next(_partitions)


class TestSettings:
    async def test_a_journal_for_use_passes_its_own_check(self, journal: Journal) -> None:
        await journal.check_settings()


class TestTailSeqs:
    async def test_many_tails_in_one_question(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        await writer.append()
        empty = next(_partitions)
        assert list(await journal.tail_seqs([empty, partition])) == [0, (await journal.tail(partition)).seq]


class TestOpen:
    async def test_before_the_first_entry_the_tail_is_all_zero(self, journal: Journal, partition: int) -> None:
        assert await journal.tail(partition) == Mark()
        assert await journal.read(partition, Mark(), 10) == []

    async def test_opening_writes_an_entry_without_facts(self, journal: Journal, partition: int) -> None:
        entry = await journal.open(partition, None, AT_MS)
        assert (entry.epoch, entry.seq, entry.at_ms, entry.payload) == (1, 1, AT_MS, EMPTY_PAYLOAD)
        assert is_intact(GENESIS_CHECKSUM, entry)
        assert await journal.tail(partition) == mark_of(entry)
        assert await journal.read(partition, Mark(), 10) == [entry]

    async def test_a_new_epoch_continues_seq_and_chain(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        last = await writer.append()
        entry = await journal.open(partition, None, AT_MS)
        assert (entry.epoch, entry.seq) == (2, 3)
        assert is_intact(last.checksum, entry)

    async def test_expected_epoch_is_compared_with_the_tails(self, journal: Journal, partition: int) -> None:
        first = await journal.open(partition, 0, AT_MS)
        with pytest.raises(Fenced):
            await journal.open(partition, 0, AT_MS)
        with pytest.raises(Fenced):
            await journal.open(partition, 2, AT_MS)
        assert await journal.tail(partition) == mark_of(first)
        assert (await journal.open(partition, 1, AT_MS)).epoch == 2

    async def test_concurrent_opens_get_an_epoch_each(self, journal: Journal, rival: Journal, partition: int) -> None:
        opens = [each.open(partition, None, AT_MS) for each in (journal, rival) * 8]
        entries = await asyncio.gather(*opens)
        assert sorted(entry.epoch for entry in entries) == list(range(1, 17))
        assert await read_all(journal, partition) == sorted(entries, key=lambda entry: entry.epoch)

    async def test_of_opens_that_expect_the_same_epoch_one_wins(
        self, journal: Journal, rival: Journal, partition: int
    ) -> None:
        opens = [each.open(partition, 0, AT_MS) for each in (journal, rival) * 8]
        outcomes = await asyncio.gather(*opens, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes if not isinstance(outcome, Fenced)] == [Entry]
        assert (await journal.tail(partition)).epoch == 1

    async def test_opening_wins_against_a_writer_that_keeps_writing(
        self, journal: Journal, rival: Journal, partition: int
    ) -> None:
        writer = await Writer.open(journal, partition)

        async def keep_writing() -> None:
            while True:
                await writer.append()
                await asyncio.sleep(0)

        writing = asyncio.create_task(keep_writing())
        opened = await rival.open(partition, 1, AT_MS)
        with pytest.raises(Fenced):
            await writing
        assert (await read_all(rival, partition))[-1] == opened


class TestAppend:
    async def test_entries_come_back_as_they_were_written(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        written = [writer.tail, *[await writer.append(bytes([0x91, i])) for i in range(5)]]
        assert await read_all(journal, partition) == written
        assert await journal.tail(partition) == mark_of(written[-1])

    async def test_any_bytes_may_be_the_payload(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        for payload in (b"", b"\r\n", b"+OK 1\r\n-ERR\r\n", bytes(range(256)), "ü€".encode()):
            entry = await writer.append(payload)
            assert (await read_all(journal, partition))[-1] == entry

    async def test_the_old_writer_is_fenced(self, journal: Journal, rival: Journal, partition: int) -> None:
        zombie = await Writer.open(journal, partition)
        await zombie.append()
        successor = await Writer.open(rival, partition)
        with pytest.raises(Fenced):
            await zombie.append()
        # Not even an entry that would fit in every other respect.
        forged = sealed(successor.tail.checksum, zombie.tail.epoch, successor.tail.seq + 1, AT_MS, b"\x90")
        with pytest.raises(Fenced):
            await journal.append(partition, forged, successor.tail.checksum)
        assert await journal.tail(partition) == mark_of(successor.tail)
        await successor.append()

    async def test_a_zombies_pipeline_is_fenced_as_a_whole(
        self, journal: Journal, rival: Journal, partition: int
    ) -> None:
        zombie = await Writer.open(journal, partition)
        await rival.open(partition, None, AT_MS)
        outcomes = await zombie.append_at_once([zombie.seal() for _ in range(10)])
        assert [type(outcome) for outcome in outcomes] == [Fenced] * 10

    @pytest.mark.parametrize(
        ("epoch_step", "seq_step", "chained_to_tail"),
        [
            pytest.param(0, 2, True, id="gap"),
            pytest.param(0, 0, True, id="seq again"),
            pytest.param(0, -1, True, id="seq going back"),
            pytest.param(0, 1, False, id="other checksum"),
            pytest.param(1, 1, True, id="epoch never opened"),
        ],
    )
    async def test_what_does_not_follow_the_tail_is_refused(
        self, journal: Journal, partition: int, epoch_step: int, seq_step: int, chained_to_tail: bool
    ) -> None:
        writer = await Writer.open(journal, partition)
        await writer.append()
        tail = await writer.append()
        previous = tail.checksum if chained_to_tail else GENESIS_CHECKSUM
        entry = sealed(previous, tail.epoch + epoch_step, tail.seq + seq_step, AT_MS, b"\x90")
        with pytest.raises(JournalCorrupt):
            await journal.append(partition, entry, previous)
        assert await journal.tail(partition) == mark_of(tail)
        assert (await read_all(journal, partition))[-1] == tail

    async def test_nothing_is_appended_before_an_epoch_is_opened(self, journal: Journal, partition: int) -> None:
        with pytest.raises(JournalCorrupt):
            await journal.append(partition, sealed(GENESIS_CHECKSUM, 1, 1, AT_MS, b"\x90"), GENESIS_CHECKSUM)
        assert await journal.tail(partition) == Mark()

    async def test_appends_called_in_order_are_written_in_order(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        batch = [writer.seal(b"\x91" + bytes([i])) for i in range(100)]
        assert await writer.append_at_once(batch) == [0] * 100
        assert (await read_all(journal, partition))[1:] == [entry for entry, _ in batch]

    async def test_one_failure_fails_those_behind_it(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        batch = [writer.seal() for _ in range(6)]
        batch[2] = (batch[2][0], GENESIS_CHECKSUM)
        outcomes = await writer.append_at_once(batch)
        assert outcomes[:2] == [0, 0]
        assert [type(outcome) for outcome in outcomes[2:]] == [JournalCorrupt] * 4
        assert await journal.tail(partition) == mark_of(batch[1][0])
        late = await asyncio.gather(journal.append(partition, *writer.seal()), return_exceptions=True)
        assert isinstance(late[0], JournalError)

    async def test_after_a_failure_a_new_epoch_goes_on(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        kept = await writer.append()
        writer.seal()  # sealed and never appended: all that follows is not contiguous
        with pytest.raises(JournalCorrupt):
            await writer.append()
        again = await Writer.open(journal, partition)
        entry = await again.append()
        assert (entry.epoch, entry.seq) == (2, kept.seq + 2)

    async def test_large_payloads(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        batch = [writer.seal(bytes([i]) * 900_000) for i in range(4)]
        assert await writer.append_at_once(batch) == [0] * 4
        assert await read_all(journal, partition, mark_of(writer.tail)) == []
        assert (await read_all(journal, partition, limit=2))[1:] == [entry for entry, _ in batch]

    async def test_a_payload_over_the_limit_is_a_bug(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        with pytest.raises(ValueError, match="payload"):
            await writer.append(bytes(ENTRY_PAYLOAD_BYTES_MAX + 1))

    async def test_partitions_know_nothing_of_each_other(self, journal: Journal) -> None:
        writers = [await Writer.open(journal, next(_partitions)) for _ in range(16)]
        batches = [[writer.seal(bytes([0x91, n])) for _ in range(20)] for n, writer in enumerate(writers)]
        broken = batches[3]
        broken[5] = (broken[5][0], GENESIS_CHECKSUM)
        await asyncio.gather(*(w.append_at_once(batch) for w, batch in zip(writers, batches, strict=True)))
        for n, (writer, batch) in enumerate(zip(writers, batches, strict=True)):
            expected = [entry for entry, _ in batch][: 5 if n == 3 else 20]
            assert (await read_all(journal, writer.partition))[1:] == expected


class TestRead:
    async def test_pages_follow_each_other(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        for _ in range(3):
            await writer.append()
        await Writer.open(journal, partition)
        page = await journal.read(partition, Mark(), 2)
        assert [(entry.epoch, entry.seq) for entry in page] == [(1, 1), (1, 2)]
        page = await journal.read(partition, mark_of(page[-1]), 10)
        assert [(entry.epoch, entry.seq) for entry in page] == [(1, 3), (1, 4), (2, 5)]
        assert await journal.read(partition, mark_of(page[-1]), 10) == []

    async def test_a_tail_before_what_was_read_is_corrupt(self, journal: Journal, partition: int) -> None:
        with pytest.raises(JournalCorrupt):
            await journal.read(partition, Mark(1, 1, b"whatever"), 10)
        writer = await Writer.open(journal, partition)
        entry, _ = writer.seal()
        with pytest.raises(JournalCorrupt):
            await journal.read(partition, mark_of(entry), 10)

    async def test_a_tail_that_is_another_entry_is_corrupt(self, journal: Journal, partition: int) -> None:
        tail = (await Writer.open(journal, partition)).tail
        with pytest.raises(JournalCorrupt):
            await journal.read(partition, Mark(tail.epoch, tail.seq, bytes(8)), 10)

    @pytest.mark.parametrize("epoch", [1, 3])
    async def test_a_cursor_of_another_epoch_is_corrupt(self, journal: Journal, partition: int, epoch: int) -> None:
        await Writer.open(journal, partition)
        writer = await Writer.open(journal, partition)
        cursor = await writer.append()
        await writer.append()
        with pytest.raises(JournalCorrupt):
            await journal.read(partition, Mark(epoch, cursor.seq, cursor.checksum), 10)


class TestTrim:
    async def test_the_projected_entry_stays_as_anchor(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        entries = [await writer.append() for _ in range(5)]
        await journal.trim(partition, mark_of(entries[2]))
        assert await journal.read(partition, mark_of(entries[1]), 10) == entries[2:]
        assert await read_all(journal, partition, mark_of(entries[2])) == entries[3:]
        for gone in (Mark(), mark_of(entries[0])):
            with pytest.raises(JournalGap):
                await journal.read(partition, gone, 10)

    async def test_trimming_to_the_tail_leaves_one_entry_to_go_on_from(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        tail = await writer.append()
        await journal.trim(partition, mark_of(tail))
        assert await journal.tail(partition) == mark_of(tail)
        await writer.append()
        opened = await journal.open(partition, None, AT_MS)
        assert [entry.seq for entry in await read_all(journal, partition, mark_of(tail))] == [3, opened.seq]

    async def test_trimming_again_or_less_changes_nothing(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        entries = [await writer.append() for _ in range(5)]
        for projected in (Mark(), mark_of(entries[3]), mark_of(entries[3]), mark_of(entries[1]), Mark()):
            await journal.trim(partition, projected)
        assert await read_all(journal, partition, mark_of(entries[2])) == entries[3:]

    @pytest.mark.parametrize(("epoch_step", "seq_step"), [(0, 1), (1, 0), (1, 5), (-1, 0)])
    async def test_an_entry_that_is_not_there_trims_nothing(
        self, journal: Journal, partition: int, epoch_step: int, seq_step: int
    ) -> None:
        await Writer.open(journal, partition)
        tail = await (await Writer.open(journal, partition)).append()
        with pytest.raises(JournalCorrupt):
            await journal.trim(partition, Mark(tail.epoch + epoch_step, tail.seq + seq_step, tail.checksum))
        with pytest.raises(JournalCorrupt):
            await journal.trim(partition, Mark(tail.epoch, tail.seq, GENESIS_CHECKSUM))
        assert len(await read_all(journal, partition)) == 3


class TestHint:
    async def test_the_hint_only_grows_and_comes_back_with_appends(self, journal: Journal, partition: int) -> None:
        writer = await Writer.open(journal, partition)
        assert await journal.projected_hint(partition) == 0
        for noted, hint in ((1, 1), (9, 9), (4, 9), (10, 10)):
            await journal.note_projected(partition, noted)
            assert await journal.projected_hint(partition) == hint
            assert await journal.append(partition, *writer.seal()) == hint
