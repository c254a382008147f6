"""Databases for tests, on a server that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

DROP_TIMEOUT_S = 30.0


@asynccontextmanager
async def temporary_database(postgres_url: str) -> AsyncIterator[str]:
    """The url of an empty database (with the extensions) that is dropped after, whoever is still connected."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield f"{postgres_url.rpartition('/')[0]}/{name}"
        await _drop(connection, name)
    finally:
        await connection.close()


async def _drop(connection: asyncpg.Connection, name: str) -> None:
    """Drops a database. Autovacuum may be at work in it, as a role that ours may not end: it is soon done."""
    async with asyncio.timeout(DROP_TIMEOUT_S):
        while True:
            try:
                await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectInUseError):
                await asyncio.sleep(0.1)
            else:
                return
