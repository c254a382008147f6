"""Migrations on a real Postgres: once each, in order, safe to start together, and refused when the schema is not what
it should be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from storage.migrate import LOCK_KEY, MigrationError, migrate, migrations_in

FIRST = "CREATE TABLE first (tenant_id text PRIMARY KEY); COMMENT ON TABLE first IS 'tenant: x';"
SECOND = "ALTER TABLE first ADD COLUMN name text;"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text(FIRST)
    (tmp_path / "0002_second.sql").write_text(SECOND)
    return tmp_path


async def test_each_runs_once(postgres_database: str, directory: Path) -> None:
    assert await migrate(postgres_database, directory) == ["0001_first", "0002_second"]
    assert await migrate(postgres_database, directory) == []
    (directory / "0003_third.sql").write_text("CREATE TABLE third (tenant_id text PRIMARY KEY);")
    assert await migrate(postgres_database, directory) == ["0003_third"]


async def test_concurrent_starts_run_each_once(postgres_database: str) -> None:
    ran = await asyncio.gather(*(migrate(postgres_database) for _ in range(6)))
    assert sorted(map(len, ran)) == [0, 0, 0, 0, 0, len(migrations_in())]


async def test_a_start_waits_for_the_one_that_migrates(postgres_database: str, directory: Path) -> None:
    other = await asyncpg.connect(postgres_database)
    await other.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
    waiting = asyncio.create_task(migrate(postgres_database, directory))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    assert await other.fetchval("SELECT to_regclass('schema_migrations')") is None
    await other.close()
    assert await waiting == ["0001_first", "0002_second"]


async def test_an_edited_migration_is_refused(postgres_database: str, directory: Path) -> None:
    await migrate(postgres_database, directory)
    (directory / "0001_first.sql").write_text(FIRST + " -- harmless?")
    with pytest.raises(MigrationError, match=r"0001_first.*never edited"):
        await migrate(postgres_database, directory)


async def test_a_database_of_a_newer_release_is_refused(postgres_database: str, directory: Path) -> None:
    await migrate(postgres_database, directory)
    (directory / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_second.*newer release"):
        await migrate(postgres_database, directory)


async def test_a_hole_in_the_history_is_refused(postgres_database: str, directory: Path) -> None:
    await migrate(postgres_database, directory)
    connection = await asyncpg.connect(postgres_database)
    await connection.execute("DELETE FROM schema_migrations WHERE version = 1")
    await connection.close()
    with pytest.raises(MigrationError, match="lacks a migration"):
        await migrate(postgres_database, directory)


async def test_a_migration_that_fails_leaves_nothing(postgres_database: str, directory: Path) -> None:
    (directory / "0002_second.sql").write_text(SECOND + " SELECT nonsense;")
    with pytest.raises(asyncpg.PostgresError):
        await migrate(postgres_database, directory)
    connection = await asyncpg.connect(postgres_database)
    columns = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'first'::regclass AND attnum > 0"
    )
    assert [row[0] for row in columns] == ["tenant_id"]
    assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == 1
    await connection.close()
    (directory / "0002_second.sql").write_text(SECOND)
    assert await migrate(postgres_database, directory) == ["0002_second"]


async def test_a_migration_and_its_row_come_together(postgres_database: str, directory: Path) -> None:
    (directory / "0002_second.sql").write_text(SECOND + " ALTER TABLE schema_migrations DROP COLUMN name;")
    with pytest.raises(asyncpg.PostgresError):
        await migrate(postgres_database, directory)
    (directory / "0002_second.sql").write_text(SECOND)
    assert await migrate(postgres_database, directory) == ["0002_second"]


@pytest.mark.parametrize("name", ["0002_again.sql", "0004_far.sql"])
def test_files_are_numbered_without_holes(directory: Path, name: str) -> None:
    (directory / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="not numbered"):
        migrations_in(directory)
