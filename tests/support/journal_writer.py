"""A partition's writer for tests: it remembers the tail, seals entries on top of it and can append many at once."""

from __future__ import annotations

import asyncio

from actors.entry import Entry, Mark, is_intact, sealed
from actors.ports import Journal

AT_MS = 1_700_000_000_000


def mark_of(entry: Entry) -> Mark:
    return Mark(entry.epoch, entry.seq, entry.checksum)


async def read_all(journal: Journal, partition: int, after: Mark | None = None, limit: int = 100) -> list[Entry]:
    """Everything after `after`, with the chain verified as a real reader does."""
    after = after or Mark()
    entries: list[Entry] = []
    while page := await journal.read(partition, after, limit):
        for entry in page:
            assert is_intact(after.checksum, entry), f"entry {entry.epoch}-{entry.seq} is not intact"
            after = mark_of(entry)
            entries.append(entry)
    return entries


class Writer:
    """Appends to one partition. `tail` is the last entry sealed, whether or not it was written."""

    def __init__(self, journal: Journal, partition: int, opened: Entry) -> None:
        self.journal = journal
        self.partition = partition
        self.tail = opened

    @classmethod
    async def open(cls, journal: Journal, partition: int) -> Writer:
        return cls(journal, partition, await journal.open(partition, None, AT_MS))

    def seal(self, payload: bytes = b"\x91\x01") -> tuple[Entry, bytes]:
        """The next entry and the checksum it is chained to; the one after it will be chained to this one."""
        previous = self.tail
        self.tail = sealed(previous.checksum, previous.epoch, previous.seq + 1, AT_MS + previous.seq, payload)
        return self.tail, previous.checksum

    async def append(self, payload: bytes = b"\x91\x01") -> Entry:
        entry, previous = self.seal(payload)
        await self.journal.append(self.partition, entry, previous)
        return entry

    async def append_at_once(self, sealed_entries: list[tuple[Entry, bytes]]) -> list[int | BaseException]:
        """All appends under way together, called in order; the hint or the exception of each."""
        return await asyncio.gather(
            *(self.journal.append(self.partition, entry, previous) for entry, previous in sealed_entries),
            return_exceptions=True,
        )
