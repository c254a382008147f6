"""The journal's entries that Postgres does not hold yet, as the writer keeps them: encoded, so that a long tail
stays small."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from actors.codec import decode_facts
from actors.entry import Entry
from actors.facts import Fact


class TailEntries:
    """A run of entries without holes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._entries: deque[Entry] = deque()

    def add(self, entry: Entry) -> None:
        """Takes in the next entry."""
        self._entries.append(entry)
        self.bytes += len(entry.payload)

    def drop(self, projected_seq: int) -> None:
        """Lets go of what Postgres holds."""
        while self._entries and self._entries[0].seq <= projected_seq:
            self.bytes -= len(self._entries.popleft().payload)

    def between(self, after_seq: int, until_seq: int) -> Iterator[tuple[Entry, list[Fact]]]:
        """The entries with after_seq < seq ≤ until_seq, decoded."""
        for entry in self._entries:
            if after_seq < entry.seq <= until_seq:
                yield entry, decode_facts(entry)
