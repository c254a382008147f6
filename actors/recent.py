"""The ledger entries that may not be in Postgres yet, for reversals and the ends of holds: each cites an
entry, and an entry is cited once."""

from __future__ import annotations

from collections import deque

from actors.facts import PointsPosted
from actors.limits import Limits

EntryKey = tuple[str, int]


class RecentEntries:
    """Ledger entries of one partition that are still in memory, by card and entry_seq."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Found by key from the first time that anybody asks; nearly no entry is ever asked for.
        self._entries: dict[EntryKey, PointsPosted] = {}
        self._unindexed: deque[PointsPosted] = deque()
        # By the entry that is reversed: the kind of the one that does it.
        self._reversed: dict[EntryKey, str] = {}
        self._order: deque[tuple[PointsPosted, int]] = deque()

    def take(self, fact: PointsPosted, position: int) -> None:
        """Takes in a posting."""
        self._unindexed.append(fact)
        if fact.reverses:
            key = (fact.card_id, fact.reverses)
            assert key not in self._reversed, "an entry is reversed once"
            self._reversed[key] = fact.kind
        self._order.append((fact, position))

    def get(self, card_id: str, entry_seq: int) -> PointsPosted | None:
        """An entry in memory."""
        while self._unindexed:
            fact = self._unindexed.popleft()
            self._entries[(fact.card_id, fact.entry_seq)] = fact
        return self._entries.get((card_id, entry_seq))

    def reversed_by(self, card_id: str, entry_seq: int) -> str:
        """The kind of the entry in memory that reverses it, "" for none."""
        return self._reversed.get((card_id, entry_seq), "")

    def forget(self, projected_position: int, now_ms: int) -> None:
        """Drops what Postgres holds, once no look-up under way can have missed it."""
        old_ms = now_ms - self._limits.memory_ms_min
        while self._order:
            fact, position = self._order[0]
            if position > projected_position or fact.at_ms > old_ms:
                return
            self._order.popleft()
            if self._unindexed and self._unindexed[0] is fact:
                self._unindexed.popleft()
            else:
                del self._entries[(fact.card_id, fact.entry_seq)]
            if fact.reverses:
                self._reversed.pop((fact.card_id, fact.reverses), None)
