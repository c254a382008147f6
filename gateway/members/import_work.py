"""Working on imports: one at a time on a gateway, batch by batch, for as long as the lease is ours.

Rules:
1. Whoever takes an import up reads its file from the start, passes over the records that are done, and goes on.
2. The event loop serves check-ins: at most `IMPORT_SLICE_ROWS` are checked at a stretch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec

from gateway.jobs import JobState, JobWork, LeaseLost
from gateway.members import imports, limits, store
from gateway.members.attributes import properties_of
from gateway.members.csv_file import Layout, Record, fields_of, layout_of, records
from gateway.members.import_batch import Batch, Draft, drafted
from gateway.members.imports import LeasedImport
from storage.postgres import DATA_FAULTS

_ATTEMPTS = 3  # of a batch that another request came in between


class ImportWork(JobWork[LeasedImport]):
    """Works on imports."""

    table = imports.JOBS
    FAULTS = (store.ExternalIdTaken, *DATA_FAULTS)

    async def _work(self, leased: LeasedImport) -> None:
        parts = [part async for part in self._parts(leased)]
        if not parts:
            raise LeaseLost
        layout = layout_of(parts[0])
        passed = 0
        batch: list[Record] = []
        for record in records(parts, layout):
            passed += 1
            if passed <= leased.done:
                if passed % limits.IMPORT_BATCH_ROWS == 0:
                    await asyncio.sleep(0)
                continue
            batch.append(record)
            if len(batch) == limits.IMPORT_BATCH_ROWS:
                leased = await self._batch(leased, layout, batch)
                batch = []
        if batch:
            leased = await self._batch(leased, layout, batch)
        await self._end(leased, "done")

    async def _end(self, leased: LeasedImport, state: JobState, reason: str = "") -> None:
        async with self._cold.connection() as connection, connection.transaction():
            await imports.end(connection, leased.tenant_id, leased.job_id, state, self._clock_ms(), reason)

    async def _parts(self, leased: LeasedImport) -> AsyncIterator[bytes]:
        number = 0
        while True:
            async with self._cold.connection() as connection:
                part = await imports.part_of(connection, leased, number)
            if part is None:
                return
            yield part
            number += 1

    async def _batch(self, leased: LeasedImport, layout: Layout, batch: list[Record]) -> LeasedImport:
        """Puts the records in. Raises `LeaseLost`."""
        async with self._cold.connection() as connection:
            stored = await store.schema_of(connection, leased.tenant_id)
        schema = stored.schema if stored is not None else None
        types = properties_of(schema) if schema is not None else {}
        drafts: list[Draft] = []
        for slice_of_rows in _slices(batch):
            drafts += [drafted(record.row, *fields_of(record, layout, types)) for record in slice_of_rows]
            await asyncio.sleep(0)
        for attempt in range(_ATTEMPTS):
            try:
                await self._write(leased, schema, drafts)
            except store.ExternalIdTaken:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        return msgspec.structs.replace(leased, done=leased.done + len(drafts))

    async def _write(self, leased: LeasedImport, schema: str | None, drafts: list[Draft]) -> None:
        async with self._cold.connection() as connection, connection.transaction():
            batch = Batch(leased, schema, self._clock_ms())
            await batch.take(connection, drafts)
            done = leased.done + len(drafts)
            if not await imports.advance(connection, leased, self._holder, done, batch.tally, batch.errors):
                raise LeaseLost


def _slices(batch: list[Record]) -> Iterator[list[Record]]:
    for start in range(0, len(batch), limits.IMPORT_SLICE_ROWS):
        yield batch[start : start + limits.IMPORT_SLICE_ROWS]
