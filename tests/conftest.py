"""What tests of every kind may ask for: real stores, started once a session, each test with a database of its own.

Tests that ask for neither start neither: the core's tests stay fast.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_redis import EmbeddedRedis
from storage.process import free_port
from tests.support.databases import temporary_database


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


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[str]:
    """The url of an empty database (with the extensions) that is dropped after the test, whoever is still connected."""
    async with temporary_database(postgres_url) as url:
        yield url
