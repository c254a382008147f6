"""What tests of every kind may ask for: real stores, started once a session, each test with a database of its own.

Tests that ask for neither start neither: the core's tests stay fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serve import log_output
from serve.stores import quiet_port
from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_redis import EmbeddedRedis
from tests.support.databases import make_template, temporary_database
from tests.support.memory_disk import memory_directory

# What commands answer goes to stdout: tests read it there.
log_output.configure(to_stderr=True)


@pytest.fixture(scope="session")
def stores_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the session's servers have their data: in memory if possible."""
    with memory_directory(tmp_path_factory.mktemp("stores")) as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres_url(stores_directory: Path) -> Iterator[str]:
    """A Postgres server for the session, with its real settings. For a database of your own: `postgres_database`."""
    server = EmbeddedPostgres(stores_directory / "postgres", quiet_port())
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def redis_url(stores_directory: Path) -> Iterator[str]:
    """A Redis server for the session, with its real settings, for whoever may do everything. Tests share it: use keys
    of your own."""
    server = EmbeddedRedis(stores_directory / "redis", quiet_port())
    server.start()
    yield server.admin_url
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """The database with this release's schema of which `migrated_database` gives copies."""
    return asyncio.run(make_template(postgres_url))


@pytest.fixture
async def migrated_database(postgres_url: str, postgres_template: str) -> AsyncIterator[str]:
    """The url of a database with this release's schema and no rows, that is dropped after the test."""
    async with temporary_database(postgres_url, postgres_template) as url:
        yield url


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[str]:
    """The url of an empty database (with the extensions) that is dropped after the test, whoever is still connected."""
    async with temporary_database(postgres_url) as url:
        yield url
