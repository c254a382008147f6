"""What the benchmark asks the stores: the projector's lag, bytes written, a database for a baseline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import asyncpg
import msgspec
from redis.asyncio import Redis

from serve.connection import Connection

POLL_S = 0.05
APPENDED_TABLES = ("journal_entries", "requests", "scans", "ledger")


class Figures(msgspec.Struct, frozen=True):
    """What Postgres holds now. `rows` is by table, of those that are only appended to."""

    entries: int
    journal_bytes: int
    database_bytes: int
    rows: dict[str, int]

    @property
    def scans(self) -> int:
        """Check-ins that were judged."""
        return self.rows["scans"]


async def figures(found: Connection) -> Figures:
    """Asks Postgres."""
    session = await asyncpg.connect(found.postgres_url)
    try:
        row = await session.fetchrow("SELECT count(*), coalesce(sum(octet_length(payload)), 0) FROM journal_entries")
        size = await session.fetchval("SELECT pg_database_size(current_database())")
        rows = {table: await session.fetchval(f"SELECT count(*) FROM {table}") for table in APPENDED_TABLES}
    finally:
        await session.close()
    assert row is not None
    return Figures(row[0], int(row[1]), size, rows)


async def lag_entries(found: Connection) -> int:
    """How many entries of the journal Postgres does not hold yet."""
    session = await asyncpg.connect(found.postgres_url)
    try:
        return await _lag(found, session)
    finally:
        await session.close()


async def _lag(found: Connection, session: asyncpg.Connection[asyncpg.Record]) -> int:
    redis: Redis = Redis.from_url(found.redis_url)
    try:
        rows = await session.fetch("SELECT partition_id, seq FROM positions")
        projected = {row["partition_id"]: row["seq"] for row in rows}
        lag = 0
        for number in range(found.partitions):
            written = int(await redis.hget(f"mv:{{p{number:02d}}}:fence", "seq") or 0)
            lag += max(0, written - projected.get(number, 0))
        return lag
    finally:
        await redis.aclose()


async def drained(found: Connection, timeout_s: float) -> float | None:
    """Waits until Postgres holds the whole journal. Returns the seconds it took, None if it did not come to that."""
    begun_s = time.monotonic()
    session = await asyncpg.connect(found.postgres_url)
    try:
        while await _lag(found, session):
            if time.monotonic() - begun_s > timeout_s:
                return None
            await asyncio.sleep(POLL_S)
    finally:
        await session.close()
    return round(time.monotonic() - begun_s, 2)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """An empty database on the same server, dropped afterwards."""
    name = f"baseline_{uuid4().hex}"
    asyncio.run(_execute(server_url, f"CREATE DATABASE {name}"))
    try:
        yield f"{server_url.rpartition('/')[0]}/{name}"
    finally:
        asyncio.run(_execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, query: str) -> None:
    session = await asyncpg.connect(url)
    try:
        await session.execute(query)
    finally:
        await session.close()
