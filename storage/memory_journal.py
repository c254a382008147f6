"""The journal in memory: for unit tests and tools that run in one process. Durable as long as the process.

It keeps the same promises as `storage.redis_journal` but durability; `tests/conformance` runs one suite against both.
No call awaits anything, so every call is atomic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from actors.entry import EMPTY_PAYLOAD, ENTRY_PAYLOAD_BYTES_MAX, Entry, Mark, sealed
from actors.ports import Fenced, JournalCorrupt, JournalGap


class _Stream:
    """One partition's entries, its tail (which outlives trimming) and the projected hint."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.tail = Mark()
        self.projected_seq = 0

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.tail = Mark(entry.epoch, entry.seq, entry.checksum)


class MemoryJournal:
    """Implements `actors.ports.Journal`. Share one object between writers to have them compete for a partition."""

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}

    def _stream(self, partition: int) -> _Stream:
        return self._streams.setdefault(partition, _Stream())

    async def check_settings(self) -> None:
        """Nothing to check: whoever takes this journal knows that it dies with the process."""

    async def tail(self, partition: int) -> Mark:
        return self._stream(partition).tail

    async def tail_seqs(self, partitions: Sequence[int]) -> Sequence[int]:
        return [(await self.tail(partition)).seq for partition in partitions]

    async def open(self, partition: int, expected_epoch: int | None, at_ms: int) -> Entry:
        stream = self._stream(partition)
        tail = stream.tail
        if expected_epoch is not None and tail.epoch != expected_epoch:
            raise Fenced(f"partition {partition}: the tail's epoch is {tail.epoch}, not {expected_epoch}")
        entry = sealed(tail.checksum, tail.epoch + 1, tail.seq + 1, at_ms, EMPTY_PAYLOAD)
        stream.write(entry)
        return entry

    async def append(self, partition: int, entry: Entry, previous: bytes) -> int:
        if len(entry.payload) > ENTRY_PAYLOAD_BYTES_MAX:
            raise ValueError(f"a payload of {len(entry.payload)} bytes is over {ENTRY_PAYLOAD_BYTES_MAX}")
        stream = self._stream(partition)
        tail = stream.tail
        if tail.epoch > entry.epoch:
            raise Fenced(f"partition {partition}: the open epoch is {tail.epoch}, the entry is of {entry.epoch}")
        if tail.epoch < entry.epoch:
            raise JournalCorrupt(f"partition {partition}: epoch {entry.epoch} was never opened here")
        if tail.seq + 1 != entry.seq:
            raise JournalCorrupt(f"partition {partition}: the tail is at seq {tail.seq}, the entry has {entry.seq}")
        if tail.checksum != previous:
            raise JournalCorrupt(f"partition {partition}: entry {entry.seq} is chained to another entry than the tail")
        stream.write(entry)
        return stream.projected_seq

    async def read(self, partition: int, after: Mark, limit: int) -> Sequence[Entry]:
        stream = self._stream(partition)
        tail = stream.tail
        if tail.seq < after.seq:
            raise JournalCorrupt(f"partition {partition}: the tail is at seq {tail.seq}, before {after.seq}")
        if tail.seq == after.seq:
            if tail != after:
                raise JournalCorrupt(f"partition {partition}: the tail is not the entry {after.seq} that was read")
            return []
        start = after.seq + 1 - stream.entries[0].seq
        if start < 0:
            raise JournalGap(f"partition {partition}: entry {after.seq + 1} has been trimmed")
        if stream.entries[start].epoch < after.epoch or (start and stream.entries[start - 1].epoch != after.epoch):
            raise JournalCorrupt(f"partition {partition}: entry {after.seq} is of another epoch than {after.epoch}")
        return list(islice(stream.entries, start, start + limit))

    async def trim(self, partition: int, projected: Mark) -> None:
        entries = self._stream(partition).entries
        if projected.seq == 0 or (entries and entries[0].seq > projected.seq and entries[0].epoch >= projected.epoch):
            return
        start = projected.seq - entries[0].seq if entries else 0
        if not 0 <= start < len(entries):
            raise JournalCorrupt(f"partition {partition}: the projected entry {projected.seq} is not in the journal")
        anchor = entries[start]
        if (anchor.epoch, anchor.checksum) != (projected.epoch, projected.checksum):
            raise JournalCorrupt(f"partition {partition}: the projected entry {projected.seq} is not the journal's")
        for _ in range(start):
            entries.popleft()

    async def note_projected(self, partition: int, projected_seq: int) -> None:
        stream = self._stream(partition)
        stream.projected_seq = max(stream.projected_seq, projected_seq)

    async def projected_hint(self, partition: int) -> int:
        return self._stream(partition).projected_seq

    async def close(self) -> None:
        """Keeps the entries: a journal that is opened again in the same process finds them."""
