"""An event's scan log: pages with filters, or all of it as CSV (`Accept: text/csv`), streamed page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from actors.queries import GetEvent
from actors.replies import EventView
from gateway import limits
from gateway.lists import ScanRow, list_scans
from gateway.render import rfc3339
from gateway.rest.common import ID_PATTERN, Allowed, Call, Cursor, Limit, PathId, View, csv_cell
from storage.logs import ScanFilter

IdFilter = Annotated[str | None, Query(min_length=1, max_length=limits.ID_CHARS_MAX, pattern=ID_PATTERN)]
CSV_COLUMNS = (
    "scan_id,verdict,reason,at,scanned_at,card_id,member_id,member_name,tier,gate_id,device_id,direction,inside,"
    "points_awarded"
)
LogReader = Annotated[Call, Depends(Allowed("scans.read"))]
router = APIRouter(prefix="/v1/events", tags=["check-ins"])


class ScanMember(View):
    """Whose card it was."""

    id: str
    name: str


class ScanView(View):
    """A judged scan. `inside` is the number of people inside after it."""

    scan_id: str
    verdict: str
    reason: str | None
    at: str
    scanned_at: str
    card_id: str | None
    member: ScanMember | None
    tier: str | None
    gate_id: str | None
    device_id: str | None
    direction: str
    inside: int
    points_awarded: int


class ScanPage(View):
    """A page of scans. `stale`: what was just confirmed may be missing."""

    items: list[ScanView]
    next_cursor: str | None
    stale: bool


@router.get(
    "/{event_id}/checkins",
    summary="An event's scan log",
    response_model=None,
    responses={
        200: {
            "model": ScanPage,
            "description": "A page, or with `Accept: text/csv` everything that passes the filters",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        }
    },
)
async def checkins(
    event_id: PathId,
    call: LogReader,
    request: Request,
    verdict: Annotated[Literal["admitted", "refused"] | None, Query()] = None,
    reason: Annotated[str | None, Query(min_length=1, max_length=40, pattern="^[a-z_]+$")] = None,
    card_id: IdFilter = None,
    gate_id: IdFilter = None,
    direction: Annotated[Literal["entry", "exit"] | None, Query()] = None,
    device_id: IdFilter = None,
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> ScanPage | StreamingResponse:
    """Newest first. Refusals are part of the record; scans whose credential failed its signature are not."""
    await call.query(GetEvent(call.tenant_id, event_id), EventView)
    is_fresh = await call.is_fresh()
    wanted = ScanFilter(
        is_admitted=None if verdict is None else verdict == "admitted",
        reason=reason,
        card_id=card_id,
        gate_id=gate_id,
        device_id=device_id,
        direction=direction,
    )
    if "text/csv" in request.headers.get("accept", ""):
        page = await list_scans(call.parts.pool, call.tenant_id, event_id, wanted, limits.CSV_PAGE_ROWS, cursor)
        headers = {
            "content-disposition": f'attachment; filename="checkins-{event_id}.csv"',
            "x-mastervip-stale": "false" if is_fresh else "true",
        }
        lines = _csv(call, event_id, wanted, page.rows, page.next_cursor)
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)
    page = await list_scans(call.parts.pool, call.tenant_id, event_id, wanted, limit, cursor)
    items = [_view(row) for row in page.rows]
    return ScanPage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


async def _csv(
    call: Call, event_id: str, wanted: ScanFilter, rows: list[ScanRow], next_cursor: str | None
) -> AsyncIterator[str]:
    """Page by page, so that memory stays bounded; the first page came with the request, so that its errors could be
    told."""
    yield CSV_COLUMNS + "\r\n"
    written = 0
    while True:
        yield "".join(_line(row) for row in rows)
        written += len(rows)
        if next_cursor is None or written >= limits.CSV_ROWS_MAX:
            return
        page = await list_scans(call.parts.pool, call.tenant_id, event_id, wanted, limits.CSV_PAGE_ROWS, next_cursor)
        rows, next_cursor = page.rows, page.next_cursor


def _line(row: ScanRow) -> str:
    cells = (
        row.request_id,
        _verdict(row),
        row.reason,
        rfc3339(row.at_ms),
        rfc3339(row.scanned_at_ms),
        row.card_id,
        row.member_id,
        row.member_name,
        row.tier,
        row.gate_id,
        row.device_id,
        row.direction,
        row.inside,
        row.points_awarded,
    )
    return ",".join(map(csv_cell, cells)) + "\r\n"


def _verdict(row: ScanRow) -> str:
    return "refused" if row.reason else "admitted"


def _view(row: ScanRow) -> ScanView:
    return ScanView(
        scan_id=row.request_id,
        verdict=_verdict(row),
        reason=row.reason or None,
        at=rfc3339(row.at_ms),
        scanned_at=rfc3339(row.scanned_at_ms),
        card_id=row.card_id or None,
        member=ScanMember(id=row.member_id, name=row.member_name) if row.member_id else None,
        tier=row.tier or None,
        gate_id=row.gate_id or None,
        device_id=row.device_id or None,
        direction=row.direction,
        inside=row.inside,
        points_awarded=row.points_awarded,
    )
