"""`mastervip status`: what the supervisor wrote last about hosts and partitions, and what the others say now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
from click import ClickException, echo
from redis.asyncio import Redis
from redis.exceptions import RedisError

from serve import connection
from serve.connection import Connection, NotRunning
from serve.system_status import STATUS_KEY, SystemStatus

ASK_TIMEOUT_S = 3.0
STATUS_AGE_MS_MAX = 5_000


async def main(url: str | None, data: Path, as_json: bool) -> int:
    """Prints the status; 0 when all is well, 1 when something is not."""
    try:
        found = connection.read(data)
    except NotRunning as error:
        raise ClickException(str(error)) from error
    base_url = url or found.base_url
    document = {
        "base_url": base_url,
        "gateways": await _gateways(found, base_url),
        "stores": {"redis": await _redis(found), "postgres": await _postgres(found)},
        "pids": found.pids,
        **await _engine(found),
    }
    document["ok"] = _is_well(document)
    echo(msgspec.json.encode(document).decode() if as_json else _text(document))
    return 0 if document["ok"] else 1


async def _engine(found: Connection) -> dict[str, Any]:
    """Hosts, partitions and projectors, as the supervisor wrote them `age_ms` ago."""
    client = Redis.from_url(found.redis_url, socket_timeout=ASK_TIMEOUT_S, socket_connect_timeout=ASK_TIMEOUT_S)
    try:
        stored = await client.get(STATUS_KEY)
    except (RedisError, OSError):
        stored = None
    finally:
        await client.aclose()
    if stored is None:
        return {"age_ms": None, "placement_version": 0, "hosts": [], "partitions": [], "projectors": []}
    status = msgspec.json.decode(stored, type=SystemStatus)
    return {
        "age_ms": max(0, time.time_ns() // 1_000_000 - status.at_ms),
        "placement_version": status.placement_version,
        "hosts": [
            {
                "name": host.name,
                "alive": host.is_alive,
                "pid": host.pid,
                "partitions": host.partitions,
                "standby": host.is_alive and not host.partitions,
            }
            for host in status.hosts
        ],
        "partitions": [_partition(status, number) for number in range(status.partition_count)],
        "projectors": [
            {
                "name": projector.name,
                "alive": projector.is_alive,
                "pid": projector.pid,
                "entries_per_s": projector.status.entries_per_s if projector.status else None,
                "facts_per_s": projector.status.facts_per_s if projector.status else None,
            }
            for projector in status.projectors
        ],
    }


def _partition(status: SystemStatus, number: int) -> dict[str, Any]:
    line = next((line for line in status.partitions if line.number == number), None)
    figures = line.figures if line else None
    projected = [
        projector.status.partitions[number]
        for projector in status.projectors
        if projector.status and number in projector.status.partitions
    ]
    projected_seq = max((course.seq for course in projected), default=0)
    return {
        "partition": number,
        "owner": line.owner if line else None,
        "state": figures.state if figures else "unknown",
        "epoch": figures.epoch if figures else None,
        "seq": figures.durable_seq if figures else None,
        "projected_seq": projected_seq,
        "lag": max(0, figures.durable_seq - projected_seq) if figures else None,
        "lag_bytes": figures.unprojected_bytes if figures else None,
        "queue": figures.waiting if figures else None,
        "tenants": figures.tenants if figures else None,
        "cards": figures.cards if figures else None,
        "events": figures.events if figures else None,
        "halted": (figures.halt_reason if figures else "") or next((c.halted for c in projected if c.halted), ""),
    }


async def _gateways(found: Connection, base_url: str) -> dict[str, Any]:
    try:
        async with httpx.AsyncClient(timeout=ASK_TIMEOUT_S, verify=found.ssl_context() or True) as client:
            answer = await client.get(f"{base_url}/readyz")
    except httpx.HTTPError as error:
        return {"ready": False, "error": type(error).__name__, "processes": len(found.pids.get("gateway", []))}
    return {"ready": answer.status_code == httpx.codes.OK, "processes": len(found.pids.get("gateway", []))}


async def _redis(found: Connection) -> dict[str, Any]:
    client = Redis.from_url(found.redis_url, socket_timeout=ASK_TIMEOUT_S, socket_connect_timeout=ASK_TIMEOUT_S)
    try:
        info: dict[str, Any] = await client.info()
    except (RedisError, OSError) as error:
        return {"up": False, "error": type(error).__name__}
    finally:
        await client.aclose()
    return {"up": True, "version": info["redis_version"], "used_memory_bytes": info["used_memory"]}


async def _postgres(found: Connection) -> dict[str, Any]:
    try:
        session = await asyncpg.connect(found.postgres_url, timeout=ASK_TIMEOUT_S)
        try:
            version = await session.fetchval("SHOW server_version", timeout=ASK_TIMEOUT_S)
            size = await session.fetchval("SELECT pg_database_size(current_database())", timeout=ASK_TIMEOUT_S)
        finally:
            await session.close(timeout=ASK_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        return {"up": False, "error": type(error).__name__}
    return {"up": True, "version": version, "size_bytes": size}


def _is_well(document: dict[str, Any]) -> bool:
    return (
        document["gateways"]["ready"]
        and all(store["up"] for store in document["stores"].values())
        and document["age_ms"] is not None
        and document["age_ms"] <= STATUS_AGE_MS_MAX
        and all(partition["state"] == "open" and not partition["halted"] for partition in document["partitions"])
    )


def _text(document: dict[str, Any]) -> str:
    gateways, stores = document["gateways"], document["stores"]
    lines = [
        f"{document['base_url']}  {'all is well' if document['ok'] else 'NOT WELL'}",
        f"gateways    {gateways['processes']} processes, {'ready' if gateways['ready'] else 'NOT READY'}",
        *(f"{kind:<11} {_store_text(store)}" for kind, store in stores.items()),
        "",
        *_table(document["hosts"], ("name", "alive", "pid", "partitions", "standby")),
        "",
        *_table(document["projectors"], ("name", "alive", "pid", "entries_per_s", "facts_per_s")),
        "",
        *_table(
            document["partitions"],
            ("partition", "owner", "state", "epoch", "seq", "projected_seq", "lag", "queue", "cards", "events"),
        ),
    ]
    lines += [f"partition {p['partition']} halted: {p['halted']}" for p in document["partitions"] if p["halted"]]
    return "\n".join(lines)


def _store_text(store: dict[str, Any]) -> str:
    if not store["up"]:
        return f"AWAY ({store['error']})"
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in store.items() if name != "up")


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    cells = [list(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
