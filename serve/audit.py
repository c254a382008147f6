"""`mastervip audit`: drains, then checks every invariant over journal, memory and Postgres (`storage.audit`).

Rules:
1. Exit status 0 only if all holds; 1 if something does not; 2 if it could not be looked at.
2. Draining is waiting until Postgres is as far as the journal. On a system under load that never comes; then the audit
   says so, and looks at each partition until nothing has moved meanwhile.
3. `stores_only` looks at journal and Postgres alone: for a system whose processes are down.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import ray
from click import ClickException, echo
from ray.exceptions import RayError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.facts import CommandRefused, Fact, PointsPosted, ScanJudged
from actors.host import PartitionStatus
from actors.ports import StoreUnavailable
from gateway import render
from serve import connection
from serve.connection import Connection, NotRunning
from serve.ray_cluster import NAMESPACE, attached
from serve.system_status import STATUS_KEY, SystemStatus
from storage.acks import AckBook, AckFileDamaged
from storage.audit import CHECKS, NotLive, PartitionAudit, Sources, audit, summary
from storage.audit_checks import Finding
from storage.postgres_store import PostgresStore

DRAIN_POLL_S = 0.1
ASK_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 600.0
CONNECTIONS_MAX = 4


class HostStates:
    """The actors in memory, asked of the hosts by Ray. Implements `storage.audit.LiveStates`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def digests(self, partition: int) -> tuple[int, dict[str, bytes]]:
        stored = await self._redis.get(STATUS_KEY)
        if stored is None:
            raise NotLive("the supervisor has written no status")
        status = msgspec.json.decode(stored, type=SystemStatus)
        owner = next((line.owner for line in status.partitions if line.number == partition), "")
        if not owner:
            raise NotLive("it has no owner")
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                host: Any = await asyncio.to_thread(ray.get_actor, owner, NAMESPACE)
                before = _figures(await host.status.remote(), partition)
                digests: dict[str, bytes] = await host.state_digests.remote(partition)
                after = _figures(await host.status.remote(), partition)
        except (RayError, ValueError, TimeoutError) as error:
            raise NotLive(f"{owner} did not answer: {type(error).__name__}") from error
        if before.seq != before.durable_seq or before.seq != after.seq or before.epoch != after.epoch:
            raise NotLive(f"{owner} is writing: {before.durable_seq} to {after.seq}")
        return after.durable_seq, digests


def _figures(lines: list[PartitionStatus], partition: int) -> PartitionStatus:
    line = next((line for line in lines if line.number == partition), None)
    if line is None:
        raise NotLive("its owner does not have it")
    if line.state != "open":
        raise NotLive(f"it is {line.state}{': ' if line.halt_reason else ''}{line.halt_reason}")
    return line


def outcome_of(fact: Fact) -> object:
    """The outcome as REST tells it, for comparing with what a client was told."""
    if isinstance(fact, ScanJudged):
        return render.verdict(fact, False)
    if isinstance(fact, PointsPosted):
        return render.points_answer(fact, False)
    if isinstance(fact, CommandRefused):
        return {"code": fact.reason}
    return {}


def run(data: Path, as_json: bool, acks: Path | None, stores_only: bool, drain_timeout_s: float) -> int:
    """Audits the system on `data` and prints what it found. It goes past the API."""
    try:
        found = connection.read(data)
        book = None if acks is None else _ack_book(acks)
        with nullcontext() if stores_only else attached(found.ray):
            document = asyncio.run(_audit(found, book, stores_only, drain_timeout_s))
    except NotRunning as error:
        raise ClickException(str(error)) from error
    except (OSError, RedisError, asyncpg.PostgresError, StoreUnavailable, AckFileDamaged) as error:
        echo(f"the audit could not look: {type(error).__name__}: {error}", err=True)
        return 2
    echo(msgspec.json.encode(document).decode() if as_json else _text(document))
    return 0 if document["ok"] else 1


def _ack_book(path: Path) -> AckBook:
    with path.open("rb") as lines:
        return AckBook(lines, outcome_of)


async def _audit(found: Connection, book: AckBook | None, stores_only: bool, drain_timeout_s: float) -> dict[str, Any]:
    started_s = time.monotonic()
    redis: Redis = Redis.from_url(found.redis_url, socket_timeout=ASK_TIMEOUT_S)
    # Not a host's pool: a whole history takes longer to sort than a check-in may wait.
    pool = await asyncpg.create_pool(
        found.postgres_url, min_size=0, max_size=CONNECTIONS_MAX, command_timeout=QUERY_TIMEOUT_S
    )
    try:
        lag = await drain(redis, pool, found.partitions, drain_timeout_s)
        drained_s = time.monotonic() - started_s
        sources = Sources(
            pool=pool,
            redis=redis,
            store=PostgresStore(pool),
            partition_count=found.partitions,
            live=None if stores_only else HostStates(redis),
            listeners=() if book is None else (book,),
        )
        results = await audit(sources)
    finally:
        await redis.aclose()
        await pool.close()
    extra = [] if book is None else [*book.findings, *book.missing()]
    return _document(results, extra, book, lag, drained_s, time.monotonic() - started_s)


async def drain(redis: Redis, pool: asyncpg.Pool[asyncpg.Record], partitions: int, timeout_s: float) -> dict[int, int]:
    """Waits until Postgres is where the journal ends. Returns by how many entries it is behind where it is not."""
    end_s = time.monotonic() + timeout_s
    while True:
        rows = await pool.fetch("SELECT partition_id, seq FROM positions")
        projected = {row["partition_id"]: row["seq"] for row in rows}
        lag: dict[int, int] = {}
        for number in range(partitions):
            written = int(await redis.hget(f"mv:{{p{number:02d}}}:fence", "seq") or 0)
            if written > projected.get(number, 0):
                lag[number] = written - projected.get(number, 0)
        if not lag or time.monotonic() > end_s:
            return lag
        await asyncio.sleep(DRAIN_POLL_S)


def _document(
    results: list[PartitionAudit],
    extra: list[Finding],
    book: AckBook | None,
    lag: dict[int, int],
    drained_s: float,
    took_s: float,
) -> dict[str, Any]:
    counts = summary(results)
    counts["acks"] += len(extra)
    findings = [finding for result in results for finding in result.findings] + extra[:100]
    return {
        "ok": not any(counts.values()) and not lag,
        "drained": not lag,
        "lag_entries": {str(partition): entries for partition, entries in lag.items()},
        "entries": sum(result.entries for result in results),
        "facts": sum(result.facts for result in results),
        "live_actors": sum(result.live_actors for result in results),
        "acknowledged": None if book is None else len(book),
        "drain_s": round(drained_s, 3),
        "took_s": round(took_s, 3),
        "checks": counts,
        "findings": msgspec.to_builtins(findings),
    }


def _text(document: dict[str, Any]) -> str:
    lines = [
        f"{'ok  ' if not count else 'FAIL'} {check}: {CHECKS[check]}" for check, count in document["checks"].items()
    ]
    lines.append("")
    for finding in document["findings"]:
        where = "" if finding["partition"] < 0 else f" (partition {finding['partition']})"
        lines.append(f"{finding['check']}{where}: {finding['detail']}")
    more = sum(document["checks"].values()) - len(document["findings"])
    if more > 0:
        lines.append(f"… and {more} more")
    lines += [f"partition {p}: Postgres is {n} entries behind" for p, n in document["lag_entries"].items()]
    told = "" if document["acknowledged"] is None else f", {document['acknowledged']} acknowledgements"
    lines.append(
        f"{document['entries']} entries, {document['facts']} facts, {document['live_actors']} actors in memory{told}: "
        f"{'all invariants hold' if document['ok'] else 'NOT ALL INVARIANTS HOLD'} ({document['took_s']} s)"
    )
    return "\n".join(lines)
