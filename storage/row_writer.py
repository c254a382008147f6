"""Writes a batch of rows in the caller's transaction, and moves the partition's position with them.

Rules:
1. The position is moved first, by compare-and-set: it locks out every other projector of the partition until the end of
   the transaction, and tells a belated one that it has nothing to do.
2. One statement per table, however many rows (`storage.row_statements`); what is sent was made before
   (`storage.row_steps`), so that Postgres waits for nothing.
3. Every row has to take its change. A row that is missing, newer, or whose ledger stands elsewhere contradicts the
   journal: that is a fault of the data (`PoisonEntry`), never passed over.
4. `Connection` is all that is needed: `execute`, `copy_to_table` and `copy_records_to_table`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.entry import Mark
from storage.postgres import Connection
from storage.postgres_texts import COPY_OPTIONS
from storage.row_steps import Append, Change, Step
from storage.rows import PoisonEntry

_FIRST_POSITION = """
INSERT INTO positions (partition_id, epoch, seq, checksum) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_NEXT_POSITION = """
UPDATE positions SET epoch = $2, seq = $3, checksum = $4 WHERE partition_id = $1 AND seq = $5 AND checksum = $6
"""


class PositionLost(Exception):
    """The partition's position is not where this projector believes: another one moved it. Nothing was written."""


async def write(connection: Connection, partition: int, steps: Iterable[Step], expected: Mark, reached: Mark) -> None:
    """Writes the rows that lead from `expected` to `reached`. Raises `PositionLost`, `PoisonEntry` or what asyncpg
    raises; the caller then rolls back."""
    await _move_position(connection, partition, expected, reached)
    for step in steps:
        if isinstance(step, Append):
            await _append(connection, step)
        else:
            await _change(connection, step)


async def _move_position(connection: Connection, partition: int, expected: Mark, reached: Mark) -> None:
    place = (partition, reached.epoch, reached.seq, reached.checksum)
    if expected.seq == 0:
        status = await connection.execute(_FIRST_POSITION, *place)
    else:
        status = await connection.execute(_NEXT_POSITION, *place, expected.seq, expected.checksum)
    if _count(status) != 1:
        raise PositionLost(f"partition {partition} is not at {expected.epoch}-{expected.seq} any more")


async def _append(connection: Connection, step: Append) -> None:
    if isinstance(step.rows, bytes):
        source: Any = memoryview(step.rows)  # bytes would be a path
        await connection.copy_to_table(step.table, source=source, columns=step.columns, **COPY_OPTIONS)
    else:
        await connection.copy_records_to_table(step.table, records=step.rows, columns=step.columns)


async def _change(connection: Connection, step: Change) -> None:
    done = _count(await connection.execute(step.statement, *step.parameters))
    if step.count is not None and done != step.count:
        raise PoisonEntry(
            f"{step.table}: {step.count - done} of {step.count} rows did not take their change: they are missing, "
            "newer than the journal, or their ledger stands elsewhere"
        )


def _count(status: str) -> int:
    """The rows that a statement changed: the last word of its command tag."""
    return int(status.rsplit(" ", 1)[1])
