"""Imports of members from CSV, as Postgres keeps them.

Rules:
1. An import and its file are stored before anybody is told of it; the file is gone when the import has ended.
2. An import is a job (`gateway.jobs`): `done` moves in the transaction of the records, so each record goes in once.
3. Of what failed, row, column and reason are kept, not the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import asyncpg
import msgspec

from gateway.jobs import OPEN, JobState, JobTable, Leased
from gateway.members import limits
from storage.postgres import WRITE_TIMEOUT_S, Connection

ImportMode = Literal["create", "upsert"]
_COLUMNS: Final = (
    "import_id, state, mode, actor, bytes, rows, done, created, updated, unchanged, failed, reason, created_at_ms, "
    "finished_at_ms"
)


class ImportUnderWay(Exception):
    """The organisation has one under way."""


class Import(msgspec.Struct, frozen=True):
    """An import as it stands. `done` of its `rows` are decided: created, updated, unchanged or failed."""

    import_id: str
    state: JobState
    mode: ImportMode
    actor: str
    bytes: int
    rows: int
    done: int
    created: int
    updated: int
    unchanged: int
    failed: int
    reason: str
    created_at_ms: int
    finished_at_ms: int | None


class LeasedImport(Leased, frozen=True):
    """An import to be worked on, and from which record on."""

    mode: ImportMode
    actor: str


JOBS: Final = JobTable("member_imports", "import_id", LeasedImport)


class Tally(msgspec.Struct, frozen=True):
    """What became of a batch of records."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0


class RowError(msgspec.Struct, frozen=True):
    """Why a row failed; `place` counts its reasons, `column` is "" where it is the row as a whole."""

    row: int
    place: int
    column: str
    reason: str


async def create(
    connection: Connection,
    tenant_id: str,
    import_id: str,
    mode: ImportMode,
    actor: str,
    parts: Sequence[bytes],
    rows: int,
    at_ms: int,
) -> None:
    """Stores an import to be done, and forgets those that are long over. Raises `ImportUnderWay`."""
    await connection.execute(
        f"DELETE FROM member_imports WHERE tenant_id = $1 AND NOT {OPEN} AND created_at_ms < $2",
        tenant_id,
        at_ms - limits.IMPORTS_KEPT_MS,
    )
    await connection.execute(
        "DELETE FROM member_import_errors AS e WHERE tenant_id = $1 AND NOT EXISTS (SELECT FROM member_imports AS i "
        "WHERE i.tenant_id = $1 AND i.import_id = e.import_id)",
        tenant_id,
    )
    try:
        await connection.execute(
            "INSERT INTO member_imports (tenant_id, import_id, state, mode, actor, bytes, rows, created_at_ms) "
            "VALUES ($1, $2, 'queued', $3, $4, $5, $6, $7)",
            tenant_id,
            import_id,
            mode,
            actor,
            sum(map(len, parts)),
            rows,
            at_ms,
        )
    except asyncpg.UniqueViolationError as error:
        raise ImportUnderWay from error
    await connection.executemany(
        "INSERT INTO member_import_parts (tenant_id, import_id, part, body) VALUES ($1, $2, $3, $4)",
        [(tenant_id, import_id, number, part) for number, part in enumerate(parts)],
        timeout=WRITE_TIMEOUT_S,
    )


async def find(connection: Connection, tenant_id: str, import_id: str) -> Import | None:
    """The import; None if there is none."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM member_imports WHERE tenant_id = $1 AND import_id = $2", tenant_id, import_id
    )
    return None if row is None else Import(*row)


async def latest(connection: Connection, tenant_id: str, before: tuple[int, str] | None, limit: int) -> list[Import]:
    """Imports, the latest first; those behind the one that began at this time with this id."""
    at_ms, import_id = before or (2**62, "")
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM member_imports WHERE tenant_id = $1 AND (created_at_ms, import_id) < ($2, $3) "
        "ORDER BY created_at_ms DESC, import_id DESC LIMIT $4",
        tenant_id,
        at_ms,
        import_id,
        limit,
    )
    return [Import(*row) for row in rows]


async def row_errors(
    connection: Connection, tenant_id: str, import_id: str, after: tuple[int, int], limit: int
) -> list[RowError]:
    """Why rows failed, by row; those behind this row and place."""
    rows = await connection.fetch(
        "SELECT row, place, column_name, reason FROM member_import_errors "
        "WHERE tenant_id = $1 AND import_id = $2 AND (row, place) > ($3, $4) ORDER BY row, place LIMIT $5",
        tenant_id,
        import_id,
        *after,
        limit,
    )
    return [RowError(*row) for row in rows]


async def advance(
    connection: Connection, leased: LeasedImport, holder: str, done: int, tally: Tally, errors: Sequence[RowError]
) -> bool:
    """From `leased.done` to `done`, and the lease anew. False where that is not so any more: whoever calls has
    to roll back."""
    if not await JOBS.advance(connection, leased, holder, done, msgspec.structs.asdict(tally)):
        return False
    await connection.executemany(
        "INSERT INTO member_import_errors (tenant_id, import_id, row, place, column_name, reason) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        [(leased.tenant_id, leased.job_id, *msgspec.structs.astuple(error)) for error in errors],
    )
    return True


async def part_of(connection: Connection, leased: LeasedImport, part: int) -> bytes | None:
    """A piece of the file; None behind its end."""
    body: bytes | None = await connection.fetchval(
        "SELECT body FROM member_import_parts WHERE tenant_id = $1 AND import_id = $2 AND part = $3",
        leased.tenant_id,
        leased.job_id,
        part,
    )
    return body


async def end(
    connection: Connection, tenant_id: str, import_id: str, state: JobState, at_ms: int, reason: str = ""
) -> bool:
    """Ends an import that is under way, and forgets its file; False if it has ended already."""
    if not await JOBS.end(connection, tenant_id, import_id, state, at_ms, reason):
        return False
    await connection.execute(
        "DELETE FROM member_import_parts WHERE tenant_id = $1 AND import_id = $2", tenant_id, import_id
    )
    return True
