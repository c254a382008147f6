"""What tests of every kind may ask for: real stores, started once a session, each test with a database of its own.

Tests that ask for neither start neither: the core's tests stay fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest

from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_redis import EmbeddedRedis
from storage.process import free_port

DROP_TIMEOUT_S = 30.0


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres server for the session, with its real settings. For a database of your own: `postgres_database`."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), free_port())
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server for the session, with its real settings. Tests share it: use keys of your own."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), free_port())
    server.start()
    yield server.url
    server.stop()


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


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[str]:
    """The url of an empty database (with the extensions) that is dropped after the test, whoever is still connected."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield f"{postgres_url.rpartition('/')[0]}/{name}"
        await _drop(connection, name)
    finally:
        await connection.close()
