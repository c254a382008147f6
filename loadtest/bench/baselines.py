"""Measures the three usual designs: the same requests over REST, from the same load client, in the same run.

Rules:
1. Each has as many processes as there are gateways. Those on Postgres have a database of their own on the system's
   server, the one on Redis a server of its own with the journal's settings: fsync before every answer.
2. Its store is billed with it; what the system's other processes do meanwhile is not.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from loadtest.baselines import app, postgres_desk, redis_script
from loadtest.baselines.app import Scanner
from loadtest.bench.fixtures import Fixtures
from loadtest.bench.load import Json, measured
from loadtest.bench.servers import cpu_seconds, running
from loadtest.client.orders import Orders
from loadtest.stores import fresh_database
from serve.connection import Connection
from serve.stores import quiet_port
from storage.embedded_redis import EmbeddedRedis

CONNECTIONS = 64
DESIGNS: dict[app.Design, str] = {
    "transaction": "FastAPI, asyncpg, one transaction",
    "statement": "FastAPI, asyncpg, one statement",
    "redis": "FastAPI, one Redis script, fsync",
}


def measure(design: app.Design, found: Connection, fixtures: Fixtures, orders: Orders, seconds: float) -> Json:
    """The figures of one design."""
    port = quiet_port()
    gateways = max(1, len(found.pids["gateway"]))
    with _store(design, found, fixtures) as (url, store, pid):
        load = msgspec.structs.replace(
            orders,
            port=port,
            seconds=seconds,
            rest_connections=min(CONNECTIONS, len(fixtures.cards)),
            sockets=0,
            rate=0.0,
            curve="even",
            ca_file=None,
        )
        tokens = {
            scanner.token: Scanner(f"dev_{number}", event.id)
            for event in fixtures.events
            for number, scanner in enumerate(event.scanners)
        }
        secret = (Path(found.data) / "secret.key").read_text().strip()
        told = app.Orders(design, port, url, fixtures.org_id, secret, tokens)
        with running(gateways, port, "loadtest.baselines", orders=msgspec.json.encode(told)) as servers:
            return measured(load, lambda: cpu_seconds(servers, {store: pid}))


@contextmanager
def _store(design: app.Design, found: Connection, fixtures: Fixtures) -> Iterator[tuple[str, str, int]]:
    """Url, kind and process id of the design's store, filled."""
    cards = [(card.id, card.member_id, "Member", card.tier) for card in fixtures.cards]
    events = [(event.id, event.capacity) for event in fixtures.events]
    if design == "redis":
        with tempfile.TemporaryDirectory(prefix="mv-bench-") as directory:
            server = EmbeddedRedis(Path(directory) / "redis", quiet_port())
            server.start()
            try:
                asyncio.run(redis_script.prepare(server.admin_url, cards, events))
                yield server.admin_url, "redis", server.pid
            finally:
                server.stop()
        return
    with fresh_database(found.postgres_url) as dsn:
        asyncio.run(postgres_desk.prepare(dsn, cards, events))
        yield dsn, "postgres", _postmaster(found.pids["postgres"])


def _postmaster(pids: list[int]) -> int:
    """The server's first process: the parent of the others."""
    return next((pid for pid in pids if psutil.Process(pid).ppid() not in pids), pids[0])
