"""Importing members from CSV: the file comes in one request, the work is done behind it, and anybody can watch.

Rules:
1. The file is checked as far as it goes before it is taken: size, first line, number of rows. What is wrong with a row
   is told in the report, and holds up no other.
2. The import's id is derived from the request id: a retry with the same file finds the same import.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from gateway import limits
from gateway.admin_log import actor_of
from gateway.ids import derived_id
from gateway.lists import page_of
from gateway.members import imports
from gateway.members.csv_file import count_records, layout_of
from gateway.members.imports import Import, ImportMode, ImportUnderWay, RowError
from gateway.problems import Problem
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import Allowed, Call, Cursor, Limit, PathId, View, csv_cell
from gateway.rest.members import background
from gateway.rest.uploads import NOT_CSV, check_is_csv, csv_file, in_thread, job_place, parts_of
from storage.postgres import Connection

PATH = "/v1/members/imports"
_REPORT_ROWS = 1_000
Importer = Annotated[Call, Depends(Allowed("members.create"))]
router = APIRouter(prefix=PATH, tags=["members"])
_FILE = csv_file("name,email\nAnn,ann@example.org\n")


class ProgressView(View):
    """Of `rows`, `done` are decided: created, updated, unchanged or failed."""

    rows: int
    done: int
    created: int
    updated: int
    unchanged: int
    failed: int


class ImportView(View):
    """An import. It is over when its state is `done`, `cancelled` or `failed` (then `reason` says why)."""

    id: str
    state: Literal["queued", "running", "done", "cancelled", "failed"]
    mode: Literal["create", "upsert"]
    progress: ProgressView
    reason: str | None
    created_at: str
    finished_at: str | None


class ImportPage(View):
    """A page of imports."""

    items: list[ImportView]
    next_cursor: str | None


class RowErrorView(View):
    """A line of the report: `row` as a spreadsheet counts, `column` null where it is the row as a whole."""

    row: int
    column: str | None
    reason: str


@router.post("", status_code=202, summary="Import members from CSV", openapi_extra=_FILE, responses={415: NOT_CSV})
async def start_import(request: Request, call: Importer, mode: Annotated[ImportMode, Query()] = "create") -> ImportView:
    """UTF-8, separated by `,` or `;`, at most 20 MB and 100,000 rows. The first line names the columns: `name`,
    `email`, `phone`, `birthday` (1990-02-28), `locale`, `external_id`, `attr.NAME`, `consent.FLAG`. A row is known by
    its `external_id`, without one by its `email`: `create` refuses what is known, `upsert` changes it, where an empty
    cell changes nothing. One import at a time."""
    check_is_csv(request)
    with background(request).uploads.one():
        parts = await parts_of(request)
        rows = await in_thread(_count, parts)
        await _store(call, mode, parts, rows)
    background(request).wake()
    return await get_import(_import_id(call), call)


async def _store(call: Call, mode: ImportMode, parts: list[bytes], rows: int) -> None:
    """Raises `Problem`."""
    import_id = _import_id(call)
    digest = blake2b(f"{PATH}\n{mode}\n".encode(), digest_size=8)
    for part in parts:
        digest.update(part)

    async def work(connection: Connection) -> dict[str, Any]:
        at_ms = call.parts.clock_ms()
        tenant_id, actor = call.tenant_id, actor_of(call.caller)
        await imports.create(connection, tenant_id, import_id, mode, actor, parts, rows, at_ms)
        await call.note(connection, import_id, at_ms=at_ms, detail={"mode": mode, "rows": rows})
        return {}

    try:
        await call.cold.once(call.tenant_id, call.request_id, digest.digest(), work)
    except ImportUnderWay as error:
        raise Problem("import_under_way") from error


def _import_id(call: Call) -> str:
    """Rule 2."""
    return derived_id("imp", call.tenant_id, call.request_id)


@router.get("", summary="Imports of members")
async def list_imports(call: Importer, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None) -> ImportPage:
    """The latest first."""
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[Import]:
            return await imports.latest(connection, call.tenant_id, job_place(after), count)

        page = await page_of(
            ("imports", call.tenant_id), cursor, limit, read, lambda row: f"{row.created_at_ms} {row.import_id}"
        )
    return ImportPage(items=[_view(row) for row in page.rows], next_cursor=page.next_cursor)


@router.get("/{import_id}", summary="How far an import is")
async def get_import(import_id: PathId, call: Importer) -> ImportView:
    """Ask again now and then; it goes on whether somebody asks or not."""
    async with call.cold.connection() as connection:
        found = await imports.find(connection, call.tenant_id, import_id)
    if found is None:
        raise Problem("import_unknown")
    return _view(found)


@router.post("/{import_id}/cancel", summary="Cancel an import")
async def cancel_import(import_id: PathId, call: Importer) -> ImportView:
    """What is in already stays. One that is over stays as it is."""
    async with call.cold.connection() as connection, connection.transaction():
        at_ms = call.parts.clock_ms()
        if await imports.end(connection, call.tenant_id, import_id, "cancelled", at_ms):
            await call.note(connection, import_id, at_ms=at_ms, detail={"cancelled": True})
    return await get_import(import_id, call)


@router.get(
    "/{import_id}/report",
    summary="What failed in an import, row by row",
    response_model=None,
    responses={
        200: {
            "description": "One JSON object a line, or with `Accept: text/csv` a table: row, column, reason",
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    },
)
async def report(import_id: PathId, call: Importer, request: Request) -> StreamingResponse:
    """In the order of the rows; while the import is under way, as far as it is."""
    await get_import(import_id, call)
    is_csv = "text/csv" in request.headers.get("accept", "")
    media_type = "text/csv; charset=utf-8" if is_csv else "application/x-ndjson"
    headers = {"content-disposition": f'attachment; filename="{import_id}.{"csv" if is_csv else "ndjson"}"'}
    lines = _lines(call, import_id, is_csv, await _errors(call, import_id, (0, -1)))
    return StreamingResponse(lines, media_type=media_type, headers=headers)


def _count(parts: list[bytes]) -> int:
    """The number of rows. Raises `BadFile`."""
    return count_records(parts, layout_of(parts[0] if parts else b""))


async def _lines(call: Call, import_id: str, is_csv: bool, errors: list[RowError]) -> AsyncIterator[str]:
    if is_csv:
        yield "row,column,reason\r\n"
    while errors:
        yield "".join(_line(error, is_csv) for error in errors)
        if len(errors) < _REPORT_ROWS:
            return
        errors = await _errors(call, import_id, (errors[-1].row, errors[-1].place))


async def _errors(call: Call, import_id: str, after: tuple[int, int]) -> list[RowError]:
    async with call.cold.connection() as connection:
        return await imports.row_errors(connection, call.tenant_id, import_id, after, _REPORT_ROWS)


def _line(error: RowError, is_csv: bool) -> str:
    if is_csv:
        return ",".join(map(csv_cell, (error.row, error.column, error.reason))) + "\r\n"
    view = RowErrorView(row=error.row, column=error.column or None, reason=error.reason)
    return msgspec.json.encode(view.model_dump()).decode() + "\n"


def _view(row: Import) -> ImportView:
    return ImportView(
        id=row.import_id,
        state=row.state,
        mode=row.mode,
        progress=ProgressView(
            rows=row.rows,
            done=row.done,
            created=row.created,
            updated=row.updated,
            unchanged=row.unchanged,
            failed=row.failed,
        ),
        reason=row.reason or None,
        created_at=rfc3339(row.created_at_ms),
        finished_at=rfc3339_or_none(row.finished_at_ms or 0),
    )
