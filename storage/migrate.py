"""Brings a database to the schema of this release: the files of `storage/migrations`, in order, each once.

Rules:
1. Forward only. A migration and its row in `schema_migrations` commit together.
2. A file that was edited after it ran, or a migration that this release does not know, stops the start: the schema is
   then not what the code believes.
3. Any number of processes may call this at once; an advisory lock lets one do the work while the others wait.
4. With the Citus extension present, tables are distributed by what their comments say (`DISTRIBUTION_COLUMNS`).
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import asyncpg
import msgspec

from storage.postgres import Connection

DIRECTORY = Path(__file__).with_name("migrations")
LOCK_KEY = 0x6D76_6D69_6772  # "mvmigr"
CONNECT_TIMEOUT_S = 10.0
DISTRIBUTION_COLUMNS = {
    "tenant": "tenant_id",
    "partition": "partition_id",
    "account": "account_id",
    "email": "email",
}

_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer NOT NULL PRIMARY KEY, name text NOT NULL, checksum bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE schema_migrations IS 'local: migrations that ran';
"""
_CLASSES = """
SELECT c.relname AS name, split_part(coalesce(obj_description(c.oid, 'pg_class'), ''), ':', 1) AS class
FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname
"""


class MigrationError(Exception):
    """The database cannot be brought to this release's schema; the message says why and what to do."""


class Migration(msgspec.Struct, frozen=True):
    """One file: `version` is the number that its name begins with."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> bytes:
        return sha256(self.sql.encode()).digest()


def migrations_in(directory: Path = DIRECTORY) -> list[Migration]:
    """The files, in order. Raises `MigrationError` unless they are numbered 1, 2, 3 …"""
    paths = sorted(directory.glob("*.sql"))
    found = [Migration(int(path.name.split("_")[0]), path.stem, path.read_text(encoding="utf-8")) for path in paths]
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"the migrations in {directory} are not numbered 1, 2, 3 …: {[m.name for m in found]}")
    return found


async def migrate(dsn: str, directory: Path = DIRECTORY) -> list[str]:
    """Runs what is missing and returns the names of what ran. Raises `MigrationError`, `OSError`,
    `asyncpg.PostgresError`."""
    migrations = migrations_in(directory)
    connection: Connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        # A lock of the session: it goes with the connection, whatever becomes of us.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        await connection.execute(_HISTORY)
        ran = {row["version"]: row for row in await connection.fetch("SELECT * FROM schema_migrations")}
        _check_history(migrations, {version: (row["name"], row["checksum"]) for version, row in ran.items()})
        missing = [migration for migration in migrations if migration.version not in ran]
        for migration in missing:
            await _run(connection, migration)
        if await connection.fetchval("SELECT 1 FROM pg_extension WHERE extname = 'citus'"):
            await distribute(connection)
        return [migration.name for migration in missing]
    finally:
        await asyncio.shield(connection.close(timeout=CONNECT_TIMEOUT_S))


def _check_history(migrations: list[Migration], ran: dict[int, tuple[str, bytes]]) -> None:
    known = {migration.version: migration for migration in migrations}
    for version, (name, checksum) in sorted(ran.items()):
        if version not in known:
            raise MigrationError(
                f"the database has migration {name}, which this release does not know: a newer release migrated it. "
                "Start that release, or restore a backup from before."
            )
        if known[version].checksum != checksum:
            raise MigrationError(
                f"migration {name} ran on this database with another text than {known[version].name} has now. "
                "A released migration is never edited: restore the file and put the change into a new one."
            )
    if ran and max(ran) != len(ran):
        raise MigrationError(f"the database lacks a migration before {max(ran)}: it has {sorted(ran)}.")


async def _run(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )


async def table_classes(connection: Connection) -> dict[str, str]:
    """Every table with its class, the first word of its comment: one of `DISTRIBUTION_COLUMNS` or "local" ("" where
    none is given)."""
    return {row["name"]: row["class"] for row in await connection.fetch(_CLASSES)}


async def distribute(connection: Connection) -> None:
    """Tells Citus to distribute what is not distributed yet: all tables of a class together, so that a tenant's rows
    share a shard."""
    done = {row[0] for row in await connection.fetch("SELECT logicalrelid::text FROM pg_dist_partition")}
    first: dict[str, str] = {}
    for table, kind in (await table_classes(connection)).items():
        if kind not in DISTRIBUTION_COLUMNS:
            continue
        together = first.setdefault(kind, table)
        if table not in done:
            await connection.execute(
                "SELECT create_distributed_table($1::text::regclass, $2, colocate_with => $3)",
                table,
                DISTRIBUTION_COLUMNS[kind],
                "none" if together == table else together,
            )
