"""An organisation's past, read from a real Postgres: where a span begins, pages, and cards as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from actors.card_facts import CardTierChanged
from actors.codec import decode_facts
from actors.entry import Entry, Mark
from actors.ids import position_of
from actors.past import CardThen
from actors.profiles import NO_PROFILE
from actors.visits import NO_VISITS
from storage import past
from storage.postgres import Pool, writer_pool
from storage.replay import WorldState
from tests.support.histories import Author
from tests.support.projection import project

PARTITION, ANOTHER = 5, 6
TENANT, OTHER = "org_A", "org_B"


@pytest.fixture
async def pool(migrated_database: str) -> AsyncIterator[Pool]:
    made = await writer_pool(migrated_database, 2)
    yield made
    await made.close()


async def all_from(pool: Pool, partition: int, seq: int) -> list[Entry]:
    found: list[Entry] = []
    while page := await past.entries_from(pool, partition, seq):
        found += page
        seq = page[-1].seq + 1
    return found


async def test_a_span_begins_with_the_first_entry_of_its_time(pool: Pool) -> None:
    author = Author(3, (TENANT,))
    entries = author.entries(40)
    await project(pool, PARTITION, Mark(), entries)
    for entry in entries:
        first = next(one for one in entries if one.at_ms >= entry.at_ms)
        assert await past.first_seq(pool, PARTITION, entry.at_ms) == first.seq
    assert await past.first_seq(pool, PARTITION, 0) == 1
    assert await past.first_seq(pool, PARTITION, entries[-1].at_ms + 1) == 41
    assert await past.first_seq(pool, ANOTHER, 0) == 0


async def test_pages_are_bounded_and_leave_nothing_out(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    author = Author(4, (TENANT,))
    entries = author.entries(60)
    await project(pool, PARTITION, Mark(), entries)
    monkeypatch.setattr(past, "PAGE_ENTRIES_MAX", 7)
    assert len(await past.entries_from(pool, PARTITION, 1)) == 7
    assert await all_from(pool, PARTITION, 1) == entries
    assert await all_from(pool, PARTITION, 31) == entries[30:]
    monkeypatch.setattr(past, "PAGE_BYTES_MAX", 1)
    sizes = [len(entry.payload) for entry in await past.entries_from(pool, PARTITION, 1)]
    assert sum(sizes[:-1]) < 1 <= sum(sizes) or len(sizes) == 1
    assert await all_from(pool, PARTITION, 1) == entries
    assert await past.entries_from(pool, ANOTHER, 1) == []


async def test_cards_are_as_they_were(pool: Pool) -> None:
    author = Author(12, (TENANT, OTHER))
    entries = author.entries(120)
    last = Mark()
    for start in range(0, len(entries), 30):
        last = await project(pool, PARTITION, last, entries[start : start + 30])
    facts = [fact for entry in entries for fact in decode_facts(entry) if isinstance(fact, CardTierChanged)]
    untold = {fact.card_id for fact in facts if fact.tenant_id == TENANT and not fact.as_of_ms}
    world = WorldState()
    told = 0
    for entry in entries:
        position = position_of(entry.seq, 0)
        known = {card_id: card for (tenant_id, card_id), card in world.cards.items() if tenant_id == TENANT}
        found = await past.cards_then(pool, TENANT, known, position)
        expected = {
            card_id: CardThen(card.member_id, card.tier, card.balance, 0, card.wallet, card.issued_at_ms)
            for card_id, card in known.items()
        }
        # (These histories earn anything; tests/edge/test_rule_simulation.py has what is earned.)
        # What is known of holders is told as it is now.
        untimed = {"earned": 0, "visits": NO_VISITS, "profile": NO_PROFILE}
        plain = {one: msgspec.structs.replace(card, **untimed) for one, card in found.items()}
        for card_id in untold & set(plain):
            plain[card_id].tier = expected[card_id].tier
        assert plain == expected
        told += len(found)
        world.apply_entry(entry)
    assert told > 300
    assert set(found) - untold, "some tiers were compared"


async def test_anothers_cards_and_events_are_absent(pool: Pool) -> None:
    author = Author(5, (TENANT, OTHER))
    entries = author.entries(60)
    await project(pool, PARTITION, Mark(), entries)
    theirs = {card_id for tenant_id, card_id in author.world.cards if tenant_id == OTHER}
    events = {event_id for tenant_id, event_id in author.world.events if tenant_id == OTHER}
    assert theirs
    assert events
    assert set(await past.cards_then(pool, OTHER, theirs, 1)) == theirs
    assert set(await past.events_named(pool, OTHER, events)) == events
    assert await past.cards_then(pool, "org_C", theirs, 1) == {}
    assert await past.events_named(pool, "org_C", events) == {}
