"""The scan log that REST shows, read page by page from a real Postgres and compared with the facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from actors.door_facts import ScanAnnulled
from actors.entry import Mark
from actors.facts import ScanDetails, ScanJudged
from storage.logs import BadCursor, Item, Page
from storage.postgres import Pool, writer_pool
from storage.scan_log import SKEW_MS_MAX, ScanFilter, counts_of_event, newest_at_ms, scans_of_event
from tests.support.histories import START_MS, Author
from tests.support.projection import project

PARTITION = 5
TENANT, OTHER = "org_A", "org_B"
EVENT = "evt_0"
MINUTE_MS = 60_000


async def page_of(
    pool: Pool, which: ScanFilter, limit: int, cursor: str | None = None, *, looked_at_max: int = 10_000
) -> Page:
    return await scans_of_event(pool, TENANT, EVENT, which, limit, cursor, looked_at_max=looked_at_max)


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


def scans(author: Author, tenant_id: str = TENANT) -> list[tuple[ScanJudged, int]]:
    """Newest first."""
    found = [
        (fact, position)
        for fact, position in author.positions.values()
        if isinstance(fact, ScanJudged) and (fact.tenant_id, fact.event_id) == (tenant_id, EVENT)
    ]
    return sorted(found, key=lambda pair: -pair[1])


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


@pytest.mark.parametrize("limit", [1, 7, 1_000, 5_000])
async def test_the_scan_log_is_all_scans_newest_first(pool: Pool, author: Author, limit: int) -> None:
    items = await read_all(lambda cursor: page_of(pool, ScanFilter(), limit, cursor))
    made = scans(author)
    annulled = {fact.scan_id: fact.at_ms for fact, _ in author.positions.values() if isinstance(fact, ScanAnnulled)}
    assert len(made) > 20
    assert [item["position"] for item in items] == [position for _, position in made]
    for item, (fact, _) in zip(items, made, strict=True):
        told = {name: getattr(fact, name) for name in item if hasattr(fact, name)}
        details = fact.details or ScanDetails()
        told |= {name: getattr(details, name) for name in item if hasattr(details, name)}
        assert item == {**told, "position": item["position"], "annulled_at_ms": annulled.get(fact.request_id, 0)}


FILTERS: tuple[tuple[ScanFilter, Callable[[ScanJudged], bool]], ...] = (
    (ScanFilter(is_admitted=True), lambda fact: not fact.reason),
    (ScanFilter(is_admitted=False), lambda fact: bool(fact.reason)),
    (ScanFilter(reasons=("gate_closed",)), lambda fact: fact.reason == "gate_closed"),
    (ScanFilter(reasons=("full", "gate_closed")), lambda fact: fact.reason in ("full", "gate_closed")),
    (ScanFilter(member_id="mem_card_1"), lambda fact: fact.member_id == "mem_card_1"),
    (ScanFilter(gate_id="gate_1"), lambda fact: fact.gate_id == "gate_1"),
    (ScanFilter(card_id="card_1"), lambda fact: fact.card_id == "card_1"),
    (ScanFilter(device_id="dev_1"), lambda fact: fact.device_id == "dev_1"),
    (ScanFilter(direction="exit"), lambda fact: fact.direction == "exit"),
    (ScanFilter(since_ms=START_MS + 3_000), lambda fact: fact.at_ms >= START_MS + 3_000),
    (ScanFilter(until_ms=START_MS + 3_000), lambda fact: fact.at_ms < START_MS + 3_000),
    (
        ScanFilter(is_admitted=True, gate_id="gate_2", direction="entry"),
        lambda fact: not fact.reason and fact.gate_id == "gate_2" and fact.direction == "entry",
    ),
)


@pytest.mark.parametrize(("which", "keeps"), FILTERS)
async def test_filters_keep_what_they_say(
    pool: Pool, author: Author, which: ScanFilter, keeps: Callable[[ScanJudged], bool]
) -> None:
    items = await read_all(lambda cursor: page_of(pool, which, 3, cursor))
    kept = [position for fact, position in scans(author) if keeps(fact)]
    assert 0 < len(kept) < len(scans(author))
    assert [item["position"] for item in items] == kept


async def test_rows_that_arrive_while_paging_neither_repeat_nor_hide(pool: Pool, author: Author) -> None:
    before = [position for _, position in scans(author)]
    first = await page_of(pool, ScanFilter(), 5)
    await project(pool, PARTITION, author.mark, author.entries(20))
    rest = await read_all(lambda cursor: page_of(pool, ScanFilter(), 5, cursor or first.next_cursor))
    assert [item["position"] for item in first.items + rest] == before


@pytest.mark.parametrize("cursor", ["", "abc", "-1", "1.5", "٣", str(1 << 63), "1; DROP TABLE scans"])
async def test_a_cursor_that_was_never_given_out_is_refused(pool: Pool, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await page_of(pool, ScanFilter(), 5, cursor)


async def test_what_cannot_exist_has_no_rows(pool: Pool, author: Author) -> None:
    assert await page_of(pool, ScanFilter(since_ms=1 << 70), 5) == Page([], None)
    assert await page_of(pool, ScanFilter(card_id="nul\0"), 5) == Page([], None)


async def test_a_page_reads_no_more_than_its_bound(pool: Pool, author: Author) -> None:
    """Its pages are short then, but together they are all there is."""
    which = ScanFilter(card_id="card_1")
    kept = [position for fact, position in scans(author) if fact.card_id == "card_1"]
    found, cursor, count = [], None, 0
    while count == 0 or cursor is not None:
        page = await page_of(pool, which, 3, cursor, looked_at_max=6)
        found += [item["position"] for item in page.items]
        cursor, count = page.next_cursor, count + 1
    assert found == kept
    assert count >= len(scans(author)) // 6, "the bound ended pages"


async def add_scans(pool: Pool, times_ms: list[int], event_id: str = EVENT, first: int = 1) -> None:
    """Scans by time, in the order of their positions; at gate_1 and gate_2 by turns, and each third refused."""
    await pool.execute(
        "INSERT INTO scans SELECT $1, $2, n + $4 - 1, at_ms, at_ms, 'r' || n, 'card_1', 'gate_' || (1 + n % 2), 'dev',"
        " 'entry', CASE WHEN n % 3 = 0 THEN 'full' ELSE '' END, 'm', 'name', 'gold', 1, 1, 0, 0, 0, '', ''"
        " FROM unnest($3::bigint[]) WITH ORDINALITY AS given(at_ms, n)",
        *(TENANT, event_id, times_ms, first),
    )


@pytest.mark.parametrize("failover", [500, 503])
@pytest.mark.parametrize(
    ("since", "until"),
    [
        (0, 1),
        (100, 200),
        (0, 9_999),
        (700, None),
        (None, 30),
        (999, 1_000),
        (495, 500),
        (492, 494),
        (5_000, 6_000),
        (-5, -1),
    ],
)
async def test_a_span_of_time_is_found_by_the_key(
    pool: Pool, since: int | None, until: int | None, failover: int
) -> None:
    """Whatever the clocks of two hosts differ at a failover."""
    times_ms = [START_MS + n * MINUTE_MS for n in range(1_000)]
    times_ms[failover:] = [at_ms - SKEW_MS_MAX for at_ms in times_ms[failover:]]
    await add_scans(pool, times_ms)
    await add_scans(pool, [START_MS] * 5, "evt_1")
    bounds = [None if each is None else START_MS + each * MINUTE_MS for each in (since, until)]
    items = (await page_of(pool, ScanFilter(since_ms=bounds[0], until_ms=bounds[1]), 1_000)).items
    low, high = bounds[0] or 0, bounds[1] or 1 << 62
    assert [item["at_ms"] for item in items] == [at_ms for at_ms in reversed(times_ms) if low <= at_ms < high]


async def test_a_span_reads_only_itself(pool: Pool) -> None:
    """The bound on rows looked at is not reached by what is newer than the span."""
    await add_scans(pool, [START_MS + n * MINUTE_MS for n in range(1_000)])
    which = ScanFilter(since_ms=START_MS, until_ms=START_MS + 5 * MINUTE_MS)
    page = await page_of(pool, which, 10, looked_at_max=20)
    assert (len(page.items), page.next_cursor) == (5, None)
    page = await page_of(pool, ScanFilter(since_ms=START_MS + 995 * MINUTE_MS), 10, looked_at_max=20)
    assert (len(page.items), page.next_cursor) == (5, None), "nor by what is older"


class Busy:
    """A source where ten more scans arrive after each page's query."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._next = 1_000

    async def fetch(self, query: str, *parameters: object) -> object:
        rows = await self._pool.fetch(query, *parameters)
        if "AS looked_at" in query:
            await add_scans(self._pool, [START_MS + MINUTE_MS] * 10, first=self._next)
            self._next += 10
        return rows


async def test_scans_that_arrive_during_a_page_do_not_count_as_looked_at(pool: Pool) -> None:
    await add_scans(pool, [START_MS] * 60)
    before = [item["position"] for item in (await page_of(pool, ScanFilter(is_admitted=True), 100)).items]
    busy = cast(Pool, Busy(pool))
    which = ScanFilter(is_admitted=True)
    items = await read_all(lambda cursor: page_of(busy, which, 10, cursor, looked_at_max=12))
    assert [item["position"] for item in items] == before


async def test_counts_by_bucket_gate_and_reason(pool: Pool) -> None:
    await add_scans(pool, [START_MS + n * 10_000 for n in range(60)])
    starts_ms = [START_MS + n * MINUTE_MS for n in range(10)]
    span = (START_MS + MINUTE_MS + 5_000, START_MS + 5 * MINUTE_MS)
    async with pool.acquire() as connection:
        counts = await counts_of_event(connection, TENANT, EVENT, starts_ms, span, ["gate_1"], 5.0)
    buckets = {(each.bucket, each.is_refused): each.scans for each in counts if each.bucket is not None}
    # n = 7 … 29 are in the span; positions are n + 1, and those that three divides are refused.
    wanted = Counter((n // 6, (n + 1) % 3 == 0) for n in range(7, 30))
    assert buckets == dict(wanted)
    gates = {(each.gate_id, each.reason): each.scans for each in counts if each.bucket is None}
    names = ("gate_1", "")  # gate_2 is none of the event's
    assert gates == dict(Counter((names[(n + 1) % 2], "full" if (n + 1) % 3 == 0 else "") for n in range(7, 30)))
    assert await newest_at_ms(pool, TENANT, EVENT) == START_MS + 590_000
    assert await newest_at_ms(pool, TENANT, "evt_none") is None
