"""Citus's rules, held against the migrated catalog: every table belongs to a class, and keys stay within what a shard
sees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from storage.migrate import DISTRIBUTION_COLUMNS, distribute, table_classes
from storage.postgres import Connection

_INDEXES = """
SELECT t.relname AS table_name, i.relname AS index_name, (SELECT a.attname FROM pg_attribute a
    WHERE a.attrelid = t.oid AND a.attnum = x.indkey[0]) AS first_column
FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indisunique AND t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p')
"""
_FOREIGN_KEYS = """
SELECT c.conname AS name, s.relname AS source, d.relname AS target,
    ARRAY (SELECT a.attname::text FROM unnest(c.conkey) AS k JOIN pg_attribute a ON a.attrelid = s.oid AND a.attnum = k)
    AS columns
FROM pg_constraint c JOIN pg_class s ON s.oid = c.conrelid JOIN pg_class d ON d.oid = c.confrelid
WHERE c.contype = 'f' AND s.relnamespace = current_schema()::regnamespace
"""
_WITHOUT_KEY = """
SELECT t.relname FROM pg_class t WHERE t.relkind IN ('r', 'p') AND t.relnamespace = current_schema()::regnamespace
AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = t.oid AND x.indisprimary)
"""


@pytest.fixture
async def connection(migrated_database: str) -> AsyncIterator[Connection]:
    made = await asyncpg.connect(migrated_database)
    yield made
    await made.close()


async def violations(connection: Connection) -> set[str]:
    """What is against the rules, as "<table or key>: <rule>"."""
    classes = await table_classes(connection)
    found = {
        f"{table}: has no class" for table, kind in classes.items() if kind not in {*DISTRIBUTION_COLUMNS, "local"}
    }
    found |= {f"{row[0]}: has no primary key" for row in await connection.fetch(_WITHOUT_KEY)}
    for table, index, first_column in await connection.fetch(_INDEXES):
        wanted = DISTRIBUTION_COLUMNS.get(classes[table])
        if wanted and first_column != wanted:
            found.add(f"{index}: does not begin with {wanted}")
    for name, source, target, columns in await connection.fetch(_FOREIGN_KEYS):
        if classes[source] != classes[target]:
            found.add(f"{name}: crosses classes")
        elif DISTRIBUTION_COLUMNS.get(classes[source]) not in (None, *columns):
            found.add(f"{name}: does not include {DISTRIBUTION_COLUMNS[classes[source]]}")
    return found


async def test_the_schema_obeys(connection: Connection) -> None:
    assert await violations(connection) == set()
    classes = await table_classes(connection)
    assert {"positions", "journal_entries"} == {table for table, kind in classes.items() if kind == "partition"}
    assert {"cards", "requests", "scans", "members"} <= {table for table, kind in classes.items() if kind == "tenant"}
    assert {"accounts", "sessions", "memberships"} <= {table for table, kind in classes.items() if kind == "account"}
    assert {"account_emails", "login_attempts"} == {table for table, kind in classes.items() if kind == "email"}


BREAKING = {
    "CREATE TABLE loose (id bigint PRIMARY KEY)": "loose: has no class",
    "CREATE TABLE keyless (tenant_id text); COMMENT ON TABLE keyless IS 'tenant: x'": "keyless: has no primary key",
    "CREATE TABLE late (id int, tenant_id text, PRIMARY KEY (id, tenant_id)); COMMENT ON TABLE late IS 'tenant: x'": (
        "late_pkey: does not begin with tenant_id"
    ),
    "CREATE UNIQUE INDEX one_name ON cards (member_name)": "one_name: does not begin with tenant_id",
    "CREATE UNIQUE INDEX lower_name ON cards (lower(member_name))": "lower_name: does not begin with tenant_id",
    "CREATE UNIQUE INDEX one_part ON memberships (tenant_id)": "one_part: does not begin with account_id",
    "CREATE UNIQUE INDEX one_address ON account_emails (account_id)": "one_address: does not begin with email",
    "CREATE UNIQUE INDEX by_time ON journal_entries (at_ms, partition_id)": "by_time: does not begin with partition_id",
    "ALTER TABLE devices ADD CONSTRAINT across FOREIGN KEY (revoked_at_ms) REFERENCES local_target (version)": (
        "across: crosses classes"
    ),
    "ALTER TABLE devices ADD CONSTRAINT alone FOREIGN KEY (name) REFERENCES alone_target (name)": (
        "alone: does not include tenant_id"
    ),
}


@pytest.mark.parametrize(("statement", "violation"), BREAKING.items(), ids=list(BREAKING.values()))
async def test_each_rule_can_fail(connection: Connection, statement: str, violation: str) -> None:
    await connection.execute(
        """
        CREATE TABLE local_target (version bigint PRIMARY KEY);
        COMMENT ON TABLE local_target IS 'local: a target';
        CREATE TABLE alone_target (tenant_id text, name text UNIQUE, PRIMARY KEY (tenant_id, name));
        COMMENT ON TABLE alone_target IS 'tenant: a target';
        """
    )
    assert await violations(connection) == {"alone_target_name_key: does not begin with tenant_id"}
    await connection.execute(statement)
    assert violation in await violations(connection)


async def test_tables_are_distributed_by_their_class_once(connection: Connection) -> None:
    """With stand-ins for Citus's own function and table, for want of the extension here."""
    await connection.execute(
        """
        CREATE SCHEMA citus_like;
        CREATE TABLE citus_like.pg_dist_partition (logicalrelid regclass, with_table text, by_column text);
        CREATE FUNCTION citus_like.create_distributed_table(name regclass, by_column text, colocate_with text)
        RETURNS void LANGUAGE sql AS 'INSERT INTO citus_like.pg_dist_partition VALUES (name, colocate_with, by_column)';
        SET search_path = public, citus_like;
        """
    )
    await distribute(connection)
    await distribute(connection)
    rows = await connection.fetch("SELECT logicalrelid::text AS name, by_column, with_table FROM pg_dist_partition")
    classes = await table_classes(connection)
    wanted = {table: DISTRIBUTION_COLUMNS[kind] for table, kind in classes.items() if kind != "local"}
    assert {row["name"]: row["by_column"] for row in rows} == wanted
    assert len(rows) == len(wanted)
    for kind in DISTRIBUTION_COLUMNS:
        together = {row["with_table"] for row in rows if classes[row["name"]] == kind}
        assert len(together) == 2
        assert "none" in together
