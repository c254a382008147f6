"""The lists that REST shows, read page by page from a real Postgres and compared with the facts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from actors.entry import Mark
from storage import logs
from storage.logs import BadCursor, Item, Page
from storage.postgres import Pool, writer_pool
from storage.statements import LedgerFilter, ledger_of_card
from tests.support.histories import Author
from tests.support.projection import project

PARTITION = 5
TENANT, OTHER = "org_A", "org_B"
EVENT = "evt_0"


@pytest.fixture
async def pool(migrated_database: str) -> AsyncIterator[Pool]:
    made = await writer_pool(migrated_database, 2)
    yield made
    await made.close()


@pytest.fixture
async def author(pool: Pool) -> Author:
    made = Author(11, (TENANT, OTHER))
    mark = Mark()
    for _ in range(5):
        mark = await project(pool, PARTITION, mark, made.entries(30))
    return made


async def read_all(page_of: Callable[[str | None], Awaitable[Page]]) -> list[Item]:
    items: list[Item] = []
    cursor: str | None = None
    while True:
        page = await page_of(cursor)
        items += page.items
        cursor = page.next_cursor
        if cursor is None:
            return items
        assert page.items, "a page with a next one is not empty"


async def test_a_cards_ledger_is_newest_first(pool: Pool, author: Author) -> None:
    for card_id in ("card_0", "card_1"):
        items = await read_all(lambda cursor, of=card_id: ledger_of_card(pool, TENANT, of, LedgerFilter(), 4, cursor))  # type: ignore[misc]
        made = [fact for (tenant, card, _), fact in author.postings.items() if (tenant, card) == (TENANT, card_id)]
        assert [item["entry_seq"] for item in items] == [fact.entry_seq for fact in reversed(made)]
        for item, fact in zip(items, reversed(made), strict=True):
            assert all(value == getattr(fact, name) for name, value in item.items() if name != "position")


async def test_cards_and_events_of_a_tenant(pool: Pool, author: Author) -> None:
    items = await read_all(lambda cursor: logs.cards(pool, TENANT, 2, cursor))
    made = {card: state for (tenant, card), state in author.world.cards.items() if tenant == TENANT}
    assert [item["card_id"] for item in items] == sorted(made)
    assert all(item["balance"] == made[str(item["card_id"])].balance for item in items)
    assert [item["card_id"] for item in (await logs.cards(pool, TENANT, 9, member_id="mem_card_1")).items] == ["card_1"]
    for state in ("active", "suspended", "revoked"):
        found = await logs.cards(pool, TENANT, 9, state=state)
        assert [item["card_id"] for item in found.items] == sorted(c for c in made if made[c].state == state)
    found = await logs.events(pool, TENANT, 9, state="open")
    assert [item["event_id"] for item in found.items] == sorted(e for t, e in author.world.events if t == TENANT)


async def test_a_page_is_bounded_both_ways(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO events (tenant_id, event_id, terms, name, state, capacity, doors_open_ms, doors_close_ms,"
        " created_at_ms, inside, admitted, refused, position)"
        " SELECT $1, 'evt_' || n, '{}', 'name', 'open', 1, 0, 0, 1, 0, 0, 0, 1 FROM generate_series(1, 1100) AS n",
        TENANT,
    )
    assert len((await logs.events(pool, TENANT, 10_000)).items) == logs.PAGE_ROWS_MAX
    assert len((await logs.events(pool, TENANT, 0)).items) == 1


@pytest.mark.parametrize("cursor", ["", "abc", "-1", "1.5", "٣", str(1 << 63), "1; DROP TABLE scans"])
async def test_a_cursor_that_was_never_given_out_is_refused(pool: Pool, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await ledger_of_card(pool, TENANT, "card_0", LedgerFilter(), 5, cursor)


async def test_an_id_that_cannot_exist_has_no_rows(pool: Pool, author: Author) -> None:
    assert await ledger_of_card(pool, TENANT, "nul\0", LedgerFilter(), 5) == Page([], None)


async def test_whether_a_fact_has_arrived(pool: Pool, author: Author) -> None:
    assert await logs.is_projected(pool, PARTITION, author.mark.seq)
    assert not await logs.is_projected(pool, PARTITION, author.mark.seq + 1)
    assert not await logs.is_projected(pool, PARTITION + 1, 1)
