"""The whole engine in one process: edge, dispatcher, host, journal in memory, projector, and a real Postgres."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from actors.host import Host
from actors.replies import Digest
from gateway.access_feed import MemoryAccessFeed
from gateway.app import EdgeApp
from gateway.cold import ColdStore
from gateway.credentials import CredentialBook
from gateway.dispatcher import Dispatcher
from gateway.identity.callers import Identity
from gateway.identity.tokens import SecretMaker
from gateway.ids import IdMaker
from gateway.metrics import EdgeMetrics
from gateway.parts import EdgeParts
from storage.memory_journal import MemoryJournal
from storage.migrate import migrate
from storage.postgres import reader_pool, writer_pool
from storage.postgres_store import PostgresStore
from storage.projector import Projector
from tests.edge.asgi import Answer, call
from tests.edge.edge import memory_limiter
from tests.edge.fakes import FakeDirectory

MASTER = b"s" * 32
SUPERADMIN_TOKEN = "mvs_the-first-one"
PARTITIONS = (0, 1)
# Tests ask faster than people do; those about limits set their own.
UNLIMITED = dict.fromkeys(("rest-key", "rest-account", "rest-device", "rest-ip"), "1000000/s")


def clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class NoPublisher:
    """Live updates go nowhere."""

    def publish(self, digests: Sequence[Digest]) -> None:
        """See `actors.host.Publisher`."""


class DirectTransport:
    """Calls the host's methods, in place of sockets."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def submit(self, host: str, batch: bytes) -> bytes:
        """See `gateway.ports.Transport`."""
        return await self._host.submit(batch)

    async def collect(self, host: str, ticket: int) -> bytes:
        """See `gateway.ports.Transport`."""
        return await self._host.collect(ticket)


class System:
    """What tests talk to. `pause` and `resume` stop the projector, so that Postgres falls behind."""

    def __init__(self, app: EdgeApp, projector: Projector, book: CredentialBook) -> None:
        self.app = app
        self.book = book
        self.projector = projector

    async def call(
        self, method: str, path: str, body: Any = None, token: str | None = None, key: str | None = None, **headers: str
    ) -> Answer:
        """One request as the token's holder, with an Idempotency-Key if given."""
        sent = dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if key is not None:
            sent["Idempotency-Key"] = key
        return await call(self.app, method, path, body, sent)

    async def made(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Any:
        """The same, for what must succeed."""
        answer = await self.call(method, path, body, token, **headers)
        assert answer.status < 300, answer.body
        return answer.json()

    async def open_org(self, name: str = "Table", **fields: Any) -> Any:
        """A new organisation, with its API key in `key`."""
        org = await self.made("POST", "/v1/orgs", {"name": name, **fields}, SUPERADMIN_TOKEN)
        return org | {"key": org["api_key"]["key"]}


@asynccontextmanager
async def running_system(database: str) -> AsyncIterator[System]:
    """Starts it all, and stops it after."""
    await migrate(database)
    pool, writers = await reader_pool(database, 4), await writer_pool(database, 2)
    journal = MemoryJournal()
    host = Host("one", journal, PostgresStore(pool), NoPublisher(), clock_ms, len(PARTITIONS))
    await host.start()
    await host.adopt(PARTITIONS)
    projector = Projector(journal, writers, PARTITIONS, clock_ms)
    projecting = asyncio.create_task(projector.run())
    dispatcher = Dispatcher(DirectTransport(host), FakeDirectory({"one": list(PARTITIONS)}), lambda: 0.5)
    await dispatcher.start()
    book = CredentialBook(MASTER)
    identity = Identity(
        ColdStore(pool, clock_ms), sha256(SUPERADMIN_TOKEN.encode()).digest(), lambda: int(time.monotonic() * 1000)
    )

    async def is_ready() -> bool:
        return dispatcher.is_placed

    ids = IdMaker(clock_ms, os.urandom)
    access = MemoryAccessFeed()
    access.follow(identity.on_change)
    parts = EdgeParts(
        dispatcher,
        dispatcher,
        pool,
        identity,
        book,
        SecretMaker(MASTER),
        ids,
        clock_ms,
        EdgeMetrics(),
        access,
        is_ready,
        memory_limiter(**UNLIMITED),
    )
    try:
        yield System(EdgeApp(parts), projector, book)
    finally:
        await dispatcher.close()
        await projector.stop()
        await projecting
        await host.drain()
        await host.stop()
        await pool.close()
        await writers.close()
