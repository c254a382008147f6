"""Databases for tests, on a server that they share.

Rules:
1. Each is a copy: of `EMPTY`, or of one with this release's schema in it. Copied as files: nothing of it goes through
   the log.
2. What a database starts from is never written to: a template takes no connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from storage.migrate import migrate

DROP_TIMEOUT_S = 30.0
EMPTY = "template1"  # with the extensions, and nothing else


@asynccontextmanager
async def temporary_database(postgres_url: str, template: str = EMPTY) -> AsyncIterator[str]:
    """The url of a copy of a database that is dropped after, whoever is still connected."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield f"{postgres_url.rpartition('/')[0]}/{name}"
    finally:
        await connection.close()
    await drop_database(postgres_url, name)


async def make_template(postgres_url: str) -> str:
    """The name of a new database with all migrations. It lasts as long as its server."""
    name = f"template_{uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {EMPTY} STRATEGY file_copy")
        await migrate(f"{postgres_url.rpartition('/')[0]}/{name}")
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    finally:
        await connection.close()
    return name


async def drop_database(postgres_url: str, name: str) -> None:
    """Drops a database. Autovacuum may be at work in it, as a role that ours may not end: it is soon done."""
    connection = await asyncpg.connect(postgres_url)
    try:
        async with asyncio.timeout(DROP_TIMEOUT_S):
            while True:
                try:
                    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
                except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectInUseError):
                    await asyncio.sleep(0.1)
                else:
                    return
    finally:
        await connection.close()
