"""What each stage could do with nothing else to do, measured on the same machine in the same run.

Rules:
1. The same work at the stage's edge: the listener takes the same requests and frames, Redis the same bytes in as many
   entries, Postgres the same rows.
2. A stage is billed with the same care: its rate is check-ins a second, so that a share can be told. The load client
   runs beside the listener as it does beside the system; Redis and Postgres get theirs from this process.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from io import BytesIO
from pathlib import Path

import asyncpg
import msgspec
from redis.asyncio import Redis

from loadtest.bench.load import Json, measured
from loadtest.bench.servers import cpu_seconds, running
from loadtest.client.orders import Orders
from serve.connection import Connection
from serve.stores import quiet_port
from storage.embedded_redis import EmbeddedRedis

LISTENER = "loadtest.baselines.listener"
ENTRIES_IN_FLIGHT = 3  # as deep as a partition's journal may be ahead (actors/limits.py)
STREAM_ENTRIES_MAX = 1_000
ROWS_MAX = 50_000
COPY_SCHEMA = "bench_copy"


def listener(orders: Orders, gateways: int, seconds: float, *, sockets: bool) -> Json:
    """The gateways' listener with nothing behind it: constant answers over REST, echoes over sockets."""
    port = quiet_port()
    connections = orders.rest_connections + orders.sockets
    orders = msgspec.structs.replace(
        orders,
        port=port,
        seconds=seconds,
        rest_connections=0 if sockets else connections,
        sockets=connections if sockets else 0,
        rate=0.0,
        curve="even",
        ca_file=None,
    )
    with running(gateways, port, LISTENER, [str(port)]) as servers:
        return measured(orders, lambda: cpu_seconds(servers, {}))


def redis(entry_bytes: int, checkins_per_entry: float, seconds: float) -> Json:
    """XADD of entries of that size, each fsynced before its answer, as many under way as a partition has."""
    with tempfile.TemporaryDirectory(prefix="mv-bench-") as directory:
        server = EmbeddedRedis(Path(directory) / "redis", quiet_port())
        server.start()
        try:
            before = cpu_seconds([], {"redis": server.pid})["redis"]
            entries, took_s = asyncio.run(_append(server.admin_url, os.urandom(max(1, entry_bytes)), seconds))
            used = cpu_seconds([], {"redis": server.pid})["redis"] - before
        finally:
            server.stop()
    checkins = entries * checkins_per_entry
    return {
        "per_s": round(checkins / took_s, 1),
        "entries_per_s": round(entries / took_s, 1),
        "entry_bytes": entry_bytes,
        "cpu_us_per_checkin": {"redis": round(used * 1e6 / max(1.0, checkins), 2)},
    }


async def _append(url: str, payload: bytes, seconds: float) -> tuple[int, float]:
    client: Redis = Redis.from_url(url, max_connections=ENTRIES_IN_FLIGHT)
    begun_s = time.perf_counter()

    async def append() -> int:
        count = 0
        while time.perf_counter() - begun_s < seconds:
            await client.xadd("mv:bench", {"e": payload}, maxlen=STREAM_ENTRIES_MAX, approximate=True)
            count += 1
        return count

    try:
        counts = await asyncio.gather(*(append() for _ in range(ENTRIES_IN_FLIGHT)))
        return sum(counts), time.perf_counter() - begun_s
    finally:
        await client.aclose()


def postgres(found: Connection, rows_per_checkin: dict[str, float]) -> Json:
    """COPY of the rows that the run wrote last, into empty tables of the same make."""
    return asyncio.run(_copy(found.postgres_url, rows_per_checkin))


async def _copy(url: str, rows_per_checkin: dict[str, float]) -> Json:
    session = await asyncpg.connect(url)
    try:
        await session.execute(f"DROP SCHEMA IF EXISTS {COPY_SCHEMA} CASCADE; CREATE SCHEMA {COPY_SCHEMA}")
        checkins = min(ROWS_MAX, await session.fetchval("SELECT count(*) FROM scans"))
        took_s = 0.0
        for table, each in rows_per_checkin.items():
            count = round(checkins * each)
            total = await session.fetchval(f"SELECT count(*) FROM {table}")
            rows = BytesIO()
            query = f"SELECT * FROM {table} LIMIT {count} OFFSET {max(0, total - count)}"
            await session.copy_from_query(query, output=rows, format="binary")
            await session.execute(f"CREATE TABLE {COPY_SCHEMA}.{table} (LIKE public.{table} INCLUDING ALL)")
            rows.seek(0)
            begun_s = time.perf_counter()
            await session.copy_to_table(table, source=rows, schema_name=COPY_SCHEMA, format="binary")
            took_s += time.perf_counter() - begun_s
        await session.execute(f"DROP SCHEMA {COPY_SCHEMA} CASCADE")
    finally:
        await session.close()
    return {"per_s": round(checkins / max(1e-9, took_s), 1), "checkins": checkins, "rows_per_checkin": rows_per_checkin}


def shares(own: Json, limits: dict[str, Json], socket_share: float) -> dict[str, float]:
    """The system's rate as a part of each stage's limit. Where both ways are used, the listener's limit is that of the
    mix: the time that it takes for a check-in of each kind."""
    per_checkin_s = socket_share / limits["echo"]["per_s"] if socket_share else 0.0
    per_checkin_s += (1 - socket_share) / limits["constant"]["per_s"] if socket_share < 1 else 0.0
    found = {"listener": own["per_s"] * per_checkin_s}
    found |= {stage: own["per_s"] / limits[stage]["per_s"] for stage in ("redis", "postgres")}
    return {stage: round(share, 3) for stage, share in found.items()}
