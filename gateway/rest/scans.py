"""An event's scan log: pages with filters, or all of it as CSV or NDJSON (`Accept`), streamed page by page."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from actors.queries import GetEvent
from actors.refusals import SCAN_REASONS
from actors.replies import EventView
from gateway import limits
from gateway.lists import ScanRow, all_scans, list_scans
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import ID_PATTERN, Allowed, Call, Cursor, Limit, PathId, Time, View, csv_cell, ms
from gateway.rest.exports import CSV, NDJSON, Export, Format, wanted_format
from storage.scan_log import ScanFilter

IdFilter = Annotated[str | None, Query(min_length=1, max_length=limits.ID_CHARS_MAX, pattern=ID_PATTERN)]
Flag = Annotated[bool | None, Query()]
CSV_COLUMNS = (
    "scan_id,verdict,reason,at,scanned_at,card_id,member_id,member_name,tier,gate_id,device_id,direction,inside,"
    "points_awarded,zone_id,session_id,offline,conflict,forced,forced_by,annulled_at"
)
Reason = Annotated[str, Query(pattern=f"^({'|'.join(SCAN_REASONS)})$")]
From = Annotated[Time | None, Query(alias="from")]
LogReader = Annotated[Call, Depends(Allowed("scans.read"))]
router = APIRouter(prefix="/v1/events", tags=["check-ins"])


class ScanMember(View):
    """Whose card it was."""

    id: str
    name: str


class ScanView(View):
    """A judged scan. `inside` is the number of people inside after it; `conflict` what an offline scan was known to
    conflict with when it came; `forced` why the door had refused somebody whom `forced_by` let in; `annulled_at` when
    an admission was taken back."""

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
    zone_id: str | None
    session_id: str | None
    offline: bool
    conflict: str | None
    forced: str | None
    forced_by: str | None
    annulled_at: str | None


class ScanPage(View):
    """A page of scans. `stale`: what was just confirmed may be missing."""

    items: list[ScanView]
    next_cursor: str | None
    stale: bool


def in_order(since: Time | None, until: Time | None) -> None:
    """Raises `Problem` (400) for a span of time that ends before it begins."""
    if since is not None and until is not None and until <= since:
        detail = "`until` must be after `from`."
        raise Problem("malformed", detail, [FieldError(detail, parameter="until")])


def _which(
    verdict: Annotated[Literal["admitted", "refused"] | None, Query()] = None,
    reason: Annotated[list[Reason] | None, Query(max_length=len(SCAN_REASONS))] = None,
    card_id: IdFilter = None,
    member_id: IdFilter = None,
    gate_id: IdFilter = None,
    direction: Annotated[Literal["entry", "exit"] | None, Query()] = None,
    device_id: IdFilter = None,
    since: From = None,
    until: Annotated[Time | None, Query()] = None,
    zone_id: IdFilter = None,
    offline: Flag = None,
    conflict: Flag = None,
    forced: Flag = None,
    annulled: Flag = None,
) -> ScanFilter:
    in_order(since, until)
    return ScanFilter(
        is_admitted=None if verdict is None else verdict == "admitted",
        reasons=tuple(sorted(set(reason or ()))),
        card_id=card_id,
        member_id=member_id,
        gate_id=gate_id,
        device_id=device_id,
        direction=direction,
        since_ms=None if since is None else ms(since),
        until_ms=None if until is None else ms(until),
        zone_id=zone_id,
        is_offline=offline,
        has_conflict=conflict,
        is_forced=forced,
        is_annulled=annulled,
    )


@router.get(
    "/{event_id}/checkins",
    summary="An event's scan log",
    response_model=None,
    responses={
        200: {
            "model": ScanPage,
            "description": "A page, or with `Accept: text/csv` or `application/x-ndjson` everything that passes the "
            "filters, a line each (in NDJSON as in `items`)",
            "content": {CSV: {"schema": {"type": "string"}}, NDJSON: {"schema": {"type": "string"}}},
        }
    },
)
async def checkins(
    event_id: PathId,
    call: LogReader,
    request: Request,
    which: Annotated[ScanFilter, Depends(_which)],
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> ScanPage | Export[ScanRow]:
    """Newest first. Refusals are part of the record; scans whose credential failed its signature are not. `from` and
    `until` bound the time of the verdict (`at`), `until` excluded; several reasons are those with any of them.

    With filters a page may be short, even empty, although `next_cursor` is set: go on until it is null. CSV and NDJSON
    have no limit of rows, and come in full unless the connection breaks."""
    await call.query(GetEvent(call.tenant_id, event_id), EventView)
    is_fresh = await call.is_fresh()
    pool = call.parts.pool
    form = _FORMATS.get(wanted_format(request.headers.get("accept", "")) or "")
    if form is not None:
        suffix = "csv" if form.media_type == CSV else "ndjson"
        headers = {
            "content-disposition": f'attachment; filename="checkins-{event_id}.{suffix}"',
            "x-mastervip-stale": "false" if is_fresh else "true",
        }
        pages = all_scans(pool, call.tenant_id, event_id, which, cursor)
        return Export(request.app.state.exports, call.tenant_id, form, pages, headers)
    page = await list_scans(pool, call.tenant_id, event_id, which, limit, cursor)
    items = [ScanView(**_fields(row)) for row in page.rows]
    return ScanPage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


def _verdict(row: ScanRow) -> str:
    return "refused" if row.reason else "admitted"


def _fields(row: ScanRow) -> dict[str, Any]:
    """Those of `ScanView`."""
    return {
        "scan_id": row.request_id,
        "verdict": _verdict(row),
        "reason": row.reason or None,
        "at": rfc3339(row.at_ms),
        "scanned_at": rfc3339(row.scanned_at_ms),
        "card_id": row.card_id or None,
        "member": {"id": row.member_id, "name": row.member_name} if row.member_id else None,
        "tier": row.tier or None,
        "gate_id": row.gate_id or None,
        "device_id": row.device_id or None,
        "direction": row.direction,
        "inside": row.inside,
        "points_awarded": row.points_awarded,
        "zone_id": row.zone_id or None,
        "session_id": row.session_id or None,
        "offline": row.is_offline,
        "conflict": row.conflict or None,
        "forced": row.forced or None,
        "forced_by": row.forced_by or None,
        "annulled_at": rfc3339_or_none(row.annulled_at_ms),
    }


def _csv_line(row: ScanRow) -> str:
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
        row.zone_id,
        row.session_id,
        "true" if row.is_offline else "false",
        row.conflict,
        row.forced,
        row.forced_by,
        rfc3339_or_none(row.annulled_at_ms),
    )
    return ",".join(map(csv_cell, cells)) + "\r\n"


def _json_line(row: ScanRow) -> str:
    return msgspec.json.encode(_fields(row)).decode() + "\n"


_FORMATS: dict[str, Format[ScanRow]] = {
    CSV: Format(CSV, _csv_line, CSV_COLUMNS + "\r\n"),
    NDJSON: Format(NDJSON, _json_line),
}
