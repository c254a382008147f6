"""Batches of cards as Postgres keeps them.

Rules:
1. A batch and all its rows are stored before anybody is told of it: whom it is about does not change any more.
2. It is a job (`gateway.jobs`): what became of rows is kept in the transaction that moves `done`.
3. `asked` is moved before the engine is asked (`begin`), and not any more once somebody has cancelled. So all rows from
   `asked` on have had no effect, and a batch that is cancelled ends when those before it are decided and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import asyncpg
import msgspec

from actors.terms import Tier
from gateway import limits
from gateway.jobs import NOW_MS, OPEN, JobState, JobTable, Leased
from storage.postgres import WRITE_TIMEOUT_S, Connection

Act = Literal["issue", "suspend", "resume", "revoke", "reissue", "renew"]
_COLUMNS: Final = (
    "batch_id, state, act, note, rows, done, succeeded, failed, reason, taken_at_ms, taken_done, created_at_ms, "
    "finished_at_ms"
)


class BatchUnderWay(Exception):
    """The organisation has one under way."""


class Batch(msgspec.Struct, frozen=True):
    """A batch as it stands: `done` of its `rows` are decided. It was last taken up at `taken_at_ms`, with `taken_done`
    done."""

    batch_id: str
    state: JobState
    act: Act
    note: str
    rows: int
    done: int
    succeeded: int
    failed: int
    reason: str
    taken_at_ms: int
    taken_done: int
    created_at_ms: int
    finished_at_ms: int | None


class LeasedBatch(Leased, frozen=True):
    """A batch to be worked on. Rows before `asked` may have been decided by the engine."""

    act: Act
    note: str
    actor: str
    rows: int
    asked: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a batch: what is asked about `target`, a member or a card. With a `code` it has failed already."""

    row: int
    target: str = ""
    tier: Tier = "bronze"
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    column: str = ""
    code: str = ""
    reason: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a row: the card with its terms, or a `code` and its `reason`. `member_id` is told where there is a
    credential to be had: that of `serial`, made at `at_ms`."""

    code: str = ""
    reason: str = ""
    tier: str = ""
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    card_id: str = ""
    member_id: str = ""
    number: int = 0
    serial: int = 0
    at_ms: int = 0


class Line(msgspec.Struct, frozen=True):
    """What is told of a row."""

    place: int
    row: int


class Failure(Line, frozen=True):
    """Why a row failed."""

    target: str
    column: str
    code: str
    reason: str


class Made(Line, frozen=True):
    """A card whose credential is to be printed. A member who was erased has no name."""

    member_id: str
    member_name: str
    external_id: str
    card_id: str
    number: int
    tier: str
    valid_from_ms: int
    valid_until_ms: int
    serial: int
    at_ms: int


JOBS: Final = JobTable("card_batches", "batch_id", LeasedBatch, on_lease=f", taken_at_ms = {NOW_MS}, taken_done = done")


async def create(
    connection: Connection, tenant_id: str, batch_id: str, act: Act, note: str, actor: str, at_ms: int
) -> None:
    """Stores a batch without rows, and forgets those that are long over. Raises `BatchUnderWay`."""
    await connection.execute(
        f"DELETE FROM card_batches WHERE tenant_id = $1 AND NOT {OPEN} AND created_at_ms < $2",
        tenant_id,
        at_ms - limits.CARD_BATCHES_KEPT_MS,
    )
    await connection.execute(
        "DELETE FROM card_batch_rows AS r WHERE tenant_id = $1 AND NOT EXISTS (SELECT FROM card_batches AS b "
        "WHERE b.tenant_id = $1 AND b.batch_id = r.batch_id)",
        tenant_id,
        timeout=WRITE_TIMEOUT_S,
    )
    try:
        await connection.execute(
            "INSERT INTO card_batches (tenant_id, batch_id, state, act, note, actor, rows, created_at_ms) "
            "VALUES ($1, $2, 'queued', $3, $4, $5, 0, $6)",
            tenant_id,
            batch_id,
            act,
            note,
            actor,
            at_ms,
        )
    except asyncpg.UniqueViolationError as error:
        raise BatchUnderWay from error


async def add_rows(connection: Connection, tenant_id: str, batch_id: str, rows: Sequence[Asked]) -> None:
    """Gives a batch without rows these."""
    fields = ("row", "target", "tier", "valid_from_ms", "valid_until_ms", "column", "code", "reason")
    columns = [[getattr(row, name) for row in rows] for name in fields]
    await connection.execute(
        "INSERT INTO card_batch_rows (tenant_id, batch_id, place, row, target, tier, valid_from_ms, valid_until_ms, "
        "column_name, code, reason) SELECT $1, $2, r.place - 1, r.row, r.target, r.tier, r.valid_from_ms, "
        "r.valid_until_ms, r.column_name, r.code, r.reason FROM unnest($3::bigint[], $4::text[], $5::text[], "
        "$6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[]) WITH ORDINALITY AS r (row, target, tier, "
        "valid_from_ms, valid_until_ms, column_name, code, reason, place)",
        tenant_id,
        batch_id,
        *columns,
        timeout=WRITE_TIMEOUT_S,
    )
    await set_size(connection, tenant_id, batch_id, len(rows))


async def set_size(connection: Connection, tenant_id: str, batch_id: str, rows: int) -> None:
    """Tells how many rows it has."""
    await connection.execute(
        "UPDATE card_batches SET rows = $3 WHERE tenant_id = $1 AND batch_id = $2", tenant_id, batch_id, rows
    )


async def find(connection: Connection, tenant_id: str, batch_id: str) -> Batch | None:
    """The batch; None if there is none."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM card_batches WHERE tenant_id = $1 AND batch_id = $2", tenant_id, batch_id
    )
    return None if row is None else Batch(*row)


async def latest(connection: Connection, tenant_id: str, before: tuple[int, str] | None, limit: int) -> list[Batch]:
    """Batches, the latest first; those behind the one that began at this time with this id."""
    at_ms, batch_id = before or (2**62, "")
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM card_batches WHERE tenant_id = $1 AND (created_at_ms, batch_id) < ($2, $3) "
        "ORDER BY created_at_ms DESC, batch_id DESC LIMIT $4",
        tenant_id,
        at_ms,
        batch_id,
        limit,
    )
    return [Batch(*row) for row in rows]


async def begin(connection: Connection, leased: LeasedBatch, holder: str, asked: int) -> bool:
    """Rule 3: the engine is about to be asked for the rows before `asked`. False where it may not be any more."""
    status = await connection.execute(
        "UPDATE card_batches SET asked = $4 WHERE tenant_id = $1 AND batch_id = $2 AND state = 'running' "
        "AND lease_holder = $3 AND NOT is_cancelled AND done = $5",
        leased.tenant_id,
        leased.job_id,
        holder,
        asked,
        leased.done,
    )
    return status == "UPDATE 1"


async def rows_from(connection: Connection, leased: LeasedBatch, before: int) -> list[tuple[int, Asked]]:
    """The rows from `leased.done` to before this place, with their places."""
    rows = await connection.fetch(
        "SELECT place, row, target, tier, valid_from_ms, valid_until_ms, column_name AS column, code, reason "
        "FROM card_batch_rows WHERE tenant_id = $1 AND batch_id = $2 AND place >= $3 AND place < $4 ORDER BY place",
        leased.tenant_id,
        leased.job_id,
        leased.done,
        before,
    )
    return [(row["place"], Asked(**{name: row[name] for name in Asked.__struct_fields__})) for row in rows]


async def keep(connection: Connection, leased: LeasedBatch, outcomes: Sequence[tuple[int, Outcome]]) -> None:
    """What became of the rows at these places."""
    fields = Outcome.__struct_fields__
    columns = [[getattr(outcome, name) for _, outcome in outcomes] for name in fields]
    settings = ", ".join(f"{name} = o.{name}" for name in fields)
    await connection.execute(
        f"UPDATE card_batch_rows AS r SET {settings} FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], "
        f"$7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[]) "
        f"AS o (place, {', '.join(fields)}) WHERE r.tenant_id = $1 AND r.batch_id = $2 AND r.place = o.place",
        leased.tenant_id,
        leased.job_id,
        [place for place, _ in outcomes],
        *columns,
    )


async def cancel(connection: Connection, tenant_id: str, batch_id: str, at_ms: int) -> bool:
    """Rule 3: it ends at once, or with the rows that have been asked for. False where nothing is left to cancel."""
    status = await connection.execute(
        f"UPDATE card_batches SET is_cancelled = true, "
        "state = CASE WHEN asked = done THEN 'cancelled' ELSE state END, "
        "finished_at_ms = CASE WHEN asked = done THEN $3::bigint END "
        f"WHERE tenant_id = $1 AND batch_id = $2 AND {OPEN} AND NOT is_cancelled",
        tenant_id,
        batch_id,
        at_ms,
    )
    return status == "UPDATE 1"


async def end_cancelled(connection: Connection, leased: LeasedBatch, holder: str, at_ms: int) -> bool:
    """Ends a batch that was cancelled while rows were under way; False where it is not so."""
    status = await connection.execute(
        "UPDATE card_batches SET state = 'cancelled', finished_at_ms = $4 WHERE tenant_id = $1 AND batch_id = $2 "
        "AND lease_holder = $3 AND state = 'running' AND is_cancelled AND done = $5",
        leased.tenant_id,
        leased.job_id,
        holder,
        at_ms,
        leased.done,
    )
    return status == "UPDATE 1"


async def failures(connection: Connection, tenant_id: str, batch_id: str, after: int, limit: int) -> list[Failure]:
    """Why rows failed, by place; those behind this one, of what is decided."""
    rows = await connection.fetch(
        "SELECT place, row, target, column_name, code, reason FROM card_batch_rows AS r WHERE tenant_id = $1 "
        "AND batch_id = $2 AND place > $3 AND code <> '' AND place < (SELECT done FROM card_batches "
        "WHERE tenant_id = $1 AND batch_id = $2) ORDER BY place LIMIT $4",
        tenant_id,
        batch_id,
        after,
        limit,
    )
    return [Failure(*row) for row in rows]


async def made(connection: Connection, tenant_id: str, batch_id: str, after: int, limit: int) -> list[Made]:
    """The cards with a credential to be had, by place; those behind this one."""
    rows = await connection.fetch(
        "SELECT r.place, r.row, r.member_id, CASE WHEN m.erased_at_ms IS NULL THEN coalesce(m.name, '') ELSE '' END, "
        "coalesce(m.external_id, ''), r.card_id, r.number, r.tier, r.valid_from_ms, r.valid_until_ms, r.serial, "
        "r.at_ms FROM card_batch_rows AS r LEFT JOIN members AS m ON m.tenant_id = $1 AND m.member_id = r.member_id "
        "WHERE r.tenant_id = $1 AND r.batch_id = $2 AND r.place > $3 AND r.member_id <> '' ORDER BY r.place LIMIT $4",
        tenant_id,
        batch_id,
        after,
        limit,
    )
    return [Made(*row) for row in rows]
