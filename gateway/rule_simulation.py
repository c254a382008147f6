"""What a draft of a rule would have done: over moments that were made up, or over a span of an organisation's past.

Rules:
1. The past is read from the archive in its order (`storage.past`), a page in memory at a time, and nothing is written.
2. It ends with the span, after `limits.SIMULATION_FACTS_MAX` facts about the organisation's cards, after so many bytes
   of the archive (`limits.SIMULATION_BYTES_MAX`; others of the partition are in it), or after
   `limits.SIMULATION_MAX_MS`; how far it came is told.
3. Others have the event loop every few moments. Of simulations there are a few at a time (`gateway.slots`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from actors.codec import decode_facts
from actors.entry import Entry
from actors.ids import position_of
from actors.past import Past, PastFact, past_facts
from gateway import limits
from rules.moment import Moment
from rules.simulate import Simulator
from storage import past
from storage.postgres import Pool
from storage.scan_log import SKEW_MS_MAX


class Span(msgspec.Struct, frozen=True):
    """From `since_ms` on and before `until_ms`."""

    since_ms: int
    until_ms: int


class Reached(msgspec.Struct, frozen=True):
    """How many facts were looked at, and the time before which all were (the span's end if all of it was)."""

    facts: int
    until_ms: int


async def see_all(simulator: Simulator, moments: Iterable[Moment]) -> None:
    """Looks at moments that are there already; rule 3."""
    for number, moment in enumerate(moments, 1):
        simulator.see(moment)
        if number % limits.SIMULATION_CHUNK_MOMENTS == 0:
            await asyncio.sleep(0)


class PastOfTenant:
    """One organisation's past. `time_zone` is its own."""

    def __init__(
        self, pool: Pool, partition_id: int, tenant_id: str, time_zone: str, clock_ms: Callable[[], int]
    ) -> None:
        self._pool = pool
        self._partition_id = partition_id
        self._tenant_id = tenant_id
        self._past = Past(time_zone)
        self._clock_ms = clock_ms
        self._ends_ms = 0

    async def see(self, simulator: Simulator, span: Span) -> Reached:
        """Has the simulator look at the span's moments; rule 2. Raises `StoreUnavailable`."""
        self._ends_ms = self._clock_ms() + limits.SIMULATION_MAX_MS
        seen, bytes_read = 0, 0
        seq = await past.first_seq(self._pool, self._partition_id, span.since_ms - SKEW_MS_MAX)
        while entries := await past.entries_from(self._pool, self._partition_id, seq):
            for fact in await self._told(entries):
                if fact.at_ms >= span.until_ms:
                    continue
                if fact.at_ms >= span.since_ms:
                    if seen >= limits.SIMULATION_FACTS_MAX or await self._is_late(seen):
                        return Reached(seen, fact.at_ms)
                    seen += 1
                    for told in self._past.moments(fact):
                        simulator.see(told.moment, told.cause)
                self._past.apply(fact)
            last = entries[-1]
            seq = last.seq + 1
            bytes_read += sum(len(entry.payload) for entry in entries)
            if last.at_ms >= span.until_ms + SKEW_MS_MAX:
                break
            if bytes_read >= limits.SIMULATION_BYTES_MAX or await self._is_late(0):
                return Reached(seen, max(span.since_ms, min(span.until_ms, last.at_ms + 1)))
        return Reached(seen, span.until_ms)

    async def _is_late(self, number: int) -> bool:
        """Whether the time is over; every few moments rule 3."""
        if number % limits.SIMULATION_CHUNK_MOMENTS:
            return False
        await asyncio.sleep(0)
        return self._clock_ms() >= self._ends_ms

    async def _told(self, entries: list[Entry]) -> list[PastFact]:
        facts: list[PastFact] = []
        for number, entry in enumerate(entries, 1):
            facts += past_facts(decode_facts(entry), self._tenant_id)
            if number % limits.SIMULATION_CHUNK_MOMENTS == 0:
                await asyncio.sleep(0)
        card_ids, event_ids = self._past.asks(facts)
        cards = await past.cards_then(self._pool, self._tenant_id, card_ids, position_of(entries[0].seq, 0))
        events = await past.events_named(self._pool, self._tenant_id, event_ids)
        self._past.learn(cards, events)
        return facts
