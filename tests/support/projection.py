"""Projects entries without a journal: what a projector does, in one call."""

from __future__ import annotations

from collections.abc import Sequence

from actors.entry import Entry, Mark
from storage.postgres import Pool
from storage.row_steps import steps
from storage.row_writer import write
from storage.rows import rows_of


async def project(pool: Pool, partition: int, mark: Mark, entries: Sequence[Entry]) -> Mark:
    """Writes `entries`, which follow `mark`, in one transaction; returns where the partition stands then."""
    last = entries[-1]
    reached = Mark(last.epoch, last.seq, last.checksum)
    async with pool.acquire() as connection, connection.transaction():
        await write(connection, partition, steps(rows_of(partition, entries)), mark, reached)
    return reached
