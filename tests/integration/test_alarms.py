"""What falls due by the clock, on the real stores: birthdays and scheduled rules come once, though hosts come and go.

The clock is the test's: it goes on as the machine's does, and jumps to the next day.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from actors.calendar import local_day, next_day, start_of_day_ms
from actors.commands import IssueCard, OpenTenant
from actors.host import Host
from actors.member_commands import DescribeCardHolder
from actors.profiles import Profile
from actors.rule_commands import SaveRule
from actors.terms import TenantSettings
from rules.language import AwardPoints, RuleDefinition, Schedule, Trigger
from storage.postgres import Pool, reader_pool, writer_pool
from storage.postgres_store import PostgresStore
from storage.projector import Projector
from storage.redis_journal import RedisJournal
from tests.support.small_history import PARTITION_COUNT, History, Quiet, Teller

REDIS_DATABASE = 10
ZONE = "Asia/Ho_Chi_Minh"
ORG = "org_alarms"
CARDS = tuple(f"card_{number}" for number in range(3))
HELD = CARDS[0]  # whose holder has a birthday
BIRTHDAY_POINTS, DAILY_POINTS = 20, 3
TIMEOUT_S = 30
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Clock:
    """The machine's, and how far ahead of it."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def to(self, at_ms: int) -> None:
        """Jumps."""
        self.ahead_ms += at_ms - self.ms()


class Stores:
    """The journal and Postgres, with the projector between them."""

    def __init__(self, journal: RedisJournal, readers: Pool, clock: Clock) -> None:
        self.journal = journal
        self.readers = readers
        self.clock = clock

    @asynccontextmanager
    async def host(self) -> AsyncIterator[Teller]:
        """A host that has all partitions."""
        host = Host("host-0", self.journal, PostgresStore(self.readers), Quiet(), self.clock.ms, PARTITION_COUNT)
        await host.start()
        try:
            await host.adopt(range(PARTITION_COUNT))
            yield Teller(host, History())
        finally:
            await host.stop()

    async def told(self) -> list[tuple[str, int, str]]:
        """Card, amount and cause of every posting that Postgres holds, in order."""
        rows = await self.readers.fetch("SELECT card_id, amount, cause FROM ledger ORDER BY card_id, entry_seq")
        return [(row["card_id"], row["amount"], row["cause"]) for row in rows]

    async def wait_for(self, postings: int) -> list[tuple[str, int, str]]:
        """All postings, once there are so many."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                told = await self.told()
                if len(told) >= postings:
                    return told
                await asyncio.sleep(0.05)


@pytest.fixture
async def stores(redis_url: str, migrated_database: str) -> AsyncIterator[Stores]:
    url = f"{redis_url.rpartition('/')[0]}/{REDIS_DATABASE}"
    redis = Redis.from_url(url)
    await redis.flushdb()
    await redis.aclose()
    journal, clock = RedisJournal(url), Clock()
    readers, writers = await reader_pool(migrated_database, 2), await writer_pool(migrated_database, 2)
    projector = Projector(journal, writers, range(PARTITION_COUNT), clock.ms)
    projecting = asyncio.create_task(projector.run())
    yield Stores(journal, readers, clock)
    await projector.stop()
    await projecting
    await journal.close()
    await readers.close()
    await writers.close()


def rule(rule_id: str, on: Trigger, points: int, schedule: Schedule | None = None) -> SaveRule:
    definition = RuleDefinition(
        rule_id=rule_id,
        version=0,
        name="R",
        on=on,
        when="true",
        then=(AwardPoints(points),),
        state="active",
        schedule=schedule,
    )
    return SaveRule(ORG, "", b"", definition, True)


async def test_birthdays_and_scheduled_rules_come_once_though_hosts_come_and_go(stores: Stores) -> None:
    clock = stores.clock
    today = next_day(local_day(clock.ms(), ZONE))
    day, noon_ms = next_day(today), start_of_day_ms(today, ZONE) + DAY_MS // 2
    clock.to(noon_ms)
    async with stores.host() as teller:
        await teller.do(OpenTenant(ORG, "", b"", "Alarms", TenantSettings(ZONE, 0, ())))
        await teller.do(*(IssueCard(ORG, "", b"", card_id, f"mem_{card_id}", "M", "gold") for card_id in CARDS))
        await teller.do(DescribeCardHolder(ORG, "", b"", HELD, Profile(day % 10_000, 1992, "")))
        await teller.do(rule("rule_1", "birthday", BIRTHDAY_POINTS))
        await teller.do(rule("rule_2", "schedule", DAILY_POINTS, Schedule(9 * 60)))
    expected: list[tuple[str, int, str]] = []
    for nth in (1, 2):
        clock.to(noon_ms + nth * DAY_MS)
        due_ms = noon_ms + nth * DAY_MS - 3 * HOUR_MS
        expected += [(card_id, DAILY_POINTS, f"schedule:{due_ms}") for card_id in CARDS]
        expected += [(HELD, BIRTHDAY_POINTS, f"birthday:{day}")] if nth == 1 else []
        async with stores.host():
            told = await stores.wait_for(len(expected))
        assert sorted(told) == sorted(expected)
