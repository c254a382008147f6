"""Which cards are revoked, read from a real Postgres: the cards' last changes of state by position, and answers that
wait until Postgres is as far as the line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from itertools import count
from typing import Any

import pytest

from actors.card_facts import CardReissued
from actors.entry import Mark
from actors.facts import CardStateChanged
from actors.ids import position_of
from actors.ports import StoreUnavailable
from gateway import limits
from gateway.revocations import Revocations
from storage import logs
from storage.migrate import migrate
from storage.postgres import Pool, reader_pool, writer_pool
from tests.support.histories import Author
from tests.support.projection import project

PARTITION = 5
ENTRIES = 150
TENANT, OTHER = "org_A", "org_B"
_UPDATES = """
SELECT pg_stat_get_xact_tuples_updated(c), pg_stat_get_xact_tuples_hot_updated(c)
FROM (SELECT 'cards'::regclass) AS t (c)
"""


@pytest.fixture
async def pool(postgres_database: str) -> AsyncIterator[Pool]:
    await migrate(postgres_database)
    made = await writer_pool(postgres_database, 3)
    yield made
    await made.close()


Change = tuple[int, str, str, int]


def changes(author: Author, tenant_id: str = TENANT) -> list[Change]:
    """Each card's last change of state or serial: position, card, state, serial; in order."""
    latest: dict[str, Change] = {}
    serials: dict[str, int] = {}
    for fact, position in sorted(author.positions.values(), key=lambda pair: pair[1]):
        if isinstance(fact, CardStateChanged | CardReissued) and fact.tenant_id == tenant_id:
            serials[fact.card_id] = serials.get(fact.card_id, 0) + isinstance(fact, CardReissued)
            latest[fact.card_id] = (position, fact.card_id, fact.state, serials[fact.card_id])
    return sorted(latest.values())


def at_first(author: Author, tenant_id: str = TENANT) -> list[Change]:
    """What a scanner is told that knows nothing: who may not be let in, and whose credentials may be dead."""
    return [row for row in changes(author, tenant_id) if row[2] != "active" or row[3]]


async def read(pool: Pool, since: int, limit: int, tenant_id: str = TENANT) -> list[Change]:
    found: list[Change] = []
    while True:
        page = await logs.card_states(pool, tenant_id, since, limit)
        found += [(card.position, card.card_id, card.state, card.serial) for card in page.items]
        if not page.has_more:
            return found
        assert len(page.items) == limit
        since = found[-1][0]


@cache
def eventful_seed() -> int:
    """The first of a history in which each organisation has cards in every state, and one that is active again and was
    never issued again. (Which it is changes with every kind of fact that histories learn.)"""
    for seed in count(1):
        author = Author(seed, (TENANT, OTHER))
        author.entries(ENTRIES)
        if all(
            len({state for _, _, state, _ in changes(author, tenant_id)}) == 3
            and at_first(author, tenant_id) != changes(author, tenant_id)
            for tenant_id in (TENANT, OTHER)
        ):
            return seed
    raise AssertionError("unreachable")


@pytest.mark.parametrize("entries_at_once", [1, 30, 150])
async def test_every_change_of_state_is_found_where_it_happened(pool: Pool, entries_at_once: int) -> None:
    """However the projector cuts its batches: a card may be issued and changed in the same one."""
    author = Author(eventful_seed(), (TENANT, OTHER))
    mark = Mark()
    for _ in range(ENTRIES // entries_at_once):
        mark = await project(pool, PARTITION, mark, author.entries(entries_at_once))
    for tenant_id in (TENANT, OTHER):
        expected = changes(author, tenant_id)
        assert len({state for _, _, state, _ in expected}) == 3, "suspended, revoked, and active again"
        everything = await read(pool, 0, 1_000, tenant_id)
        assert everything == at_first(author, tenant_id) != expected
        for limit in (1, 3):
            found = await read(pool, 0, limit, tenant_id)
            assert [row for row in found if row in everything] == everything
        for since, _, _, _ in expected:
            assert await read(pool, since, 7, tenant_id) == [row for row in expected if row[0] > since]


async def test_points_of_a_card_that_was_revoked_leave_its_place_in_the_list_alone(pool: Pool) -> None:
    author = Author(3, (TENANT,))
    mark = Mark()
    for _ in range(20):
        mark = await project(pool, PARTITION, mark, author.entries(10))
    rows = await pool.fetch("SELECT position, state_position FROM cards WHERE state_position > 0")
    assert any(row["position"] > row["state_position"] for row in rows), "something came after the change"
    assert [row[0] for row in await read(pool, 0, 1_000)] == [row[0] for row in at_first(author)]
    # An update that leaves all that is indexed alone is heap-only: check-ins must not feed the list's index.
    await pool.execute("VACUUM cards")
    async with pool.acquire() as connection, connection.transaction():
        before = await connection.fetchrow(_UPDATES)
        await connection.execute("UPDATE cards SET balance = balance + 1, position = position + 1")
        updated, hot = (after - count for after, count in zip(await connection.fetchrow(_UPDATES), before, strict=True))
    assert 0 < updated == hot


class TestRevocations:
    async def test_the_answer_waits_until_postgres_is_there(self, pool: Pool) -> None:
        author = Author(eventful_seed(), (TENANT, OTHER))
        entries = author.entries(40)
        mark = await project(pool, PARTITION, Mark(), entries[:20])
        lists = Revocations(pool, lambda _: PARTITION)
        until = position_of(entries[-1].seq + 1, 0) - 1
        waiting = asyncio.create_task(lists.since(TENANT, 0, until, 1_000))
        early = await lists.since(TENANT, 0, position_of(mark.seq, 0), 1_000)
        await asyncio.sleep(3 * limits.READ_YOUR_WRITES_POLL_MS / 1_000)
        assert not waiting.done()
        await project(pool, PARTITION, mark, entries[20:])
        found = await waiting
        expected = changes(author)
        assert found.revoked == [card for _, card, state, _ in expected if state != "active"]
        assert found.position == until > early.position
        assert not found.has_more
        assert found.serials == {card: serial for _, card, _, serial in expected if serial}
        later = await lists.since(TENANT, expected[0][0], until, 1_000)
        assert later.revoked == [card for _, card, state, _ in expected[1:] if state != "active"]
        assert later.restored == [card for _, card, state, _ in expected[1:] if state == "active"]

    async def test_pages_go_on_where_the_one_before_ended(self, pool: Pool) -> None:
        author = Author(eventful_seed(), (TENANT, OTHER))
        entries = author.entries(60)
        await project(pool, PARTITION, Mark(), entries)
        lists = Revocations(pool, lambda _: PARTITION)
        until = position_of(entries[-1].seq, 0)
        seen: list[str] = []
        since = 0
        while True:
            found = await lists.since(TENANT, since, until, 2)
            seen += found.revoked
            since = found.position
            if not found.has_more:
                break
        assert set(seen) >= {card for _, card, state, _ in changes(author) if state != "active"}
        assert since == until

    async def test_many_that_wait_ask_once_at_a_time(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        author = Author(eventful_seed(), (TENANT, OTHER))
        entries = author.entries(10)
        mark = await project(pool, PARTITION, Mark(), entries[:5])
        lists = Revocations(pool, lambda _: PARTITION)
        asked = reading = most = 0
        projected_seq, card_states = logs.projected_seq, logs.card_states

        async def counted(*arguments: Any) -> int:
            nonlocal asked
            asked += 1
            return await projected_seq(*arguments)

        async def watched(*arguments: Any) -> logs.CardStates:
            nonlocal reading, most
            reading += 1
            most = max(most, reading)
            found = await card_states(*arguments)
            reading -= 1
            return found

        monkeypatch.setattr(logs, "projected_seq", counted)
        monkeypatch.setattr(logs, "card_states", watched)
        until = position_of(entries[-1].seq, 0)
        waiting = [asyncio.create_task(lists.since(TENANT, 0, until, 10)) for _ in range(500)]
        await asyncio.sleep(4 * limits.READ_YOUR_WRITES_POLL_MS / 1_000)
        await project(pool, PARTITION, mark, entries[5:])
        await asyncio.gather(*waiting)
        assert asked < 15, "every poll is for all, and after a pause"
        assert most <= limits.REVOCATION_READS_MAX
        before = asked
        await lists.since(TENANT, 0, until, 10)
        assert asked == before, "what is known is not asked again"

    async def test_whoever_comes_when_a_question_has_just_been_answered_asks_again(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        places = iter((1, 7))
        answered = asyncio.Event()

        async def told(pool: Pool, partition: int) -> int:
            answered.set()  # the late one goes on after this step, before anybody hears that the question is answered
            return next(places)

        monkeypatch.setattr(logs, "projected_seq", told)
        lists = Revocations(pool, lambda _: PARTITION)

        async def late() -> None:
            await answered.wait()
            await lists.since(TENANT, 0, position_of(7, 0), 10)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(late())
            group.create_task(asyncio.wait_for(lists.since(TENANT, 0, position_of(1, 0), 10), 30))
        assert next(places, None) is None

    async def test_postgres_or_the_partition_not_known(self, postgres_database: str) -> None:
        away = await reader_pool(postgres_database, 1)
        await away.close()
        with pytest.raises(StoreUnavailable):
            await Revocations(away, lambda _: PARTITION).since(TENANT, 0, 5, 10)
        with pytest.raises(StoreUnavailable):
            await Revocations(away, lambda _: None).since(TENANT, 0, 0, 10)
