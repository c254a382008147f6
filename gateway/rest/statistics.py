"""An event's scans counted by gate and by time (`gateway.statistics`)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from actors.queries import GetEvent
from actors.replies import EventView
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339
from gateway.rest.common import PathId, Time, View, ms
from gateway.rest.scans import From, LogReader, in_order
from gateway.statistics import Statistician, Step, Tally, bucket_starts

YEAR_9999_MS = 253_370_764_800_000  # the calendar ends with it, and days have to have an end
router = APIRouter(prefix="/v1/events", tags=["check-ins"])


class CountsView(View):
    """Scans: entries that were admitted, exits, and what was refused."""

    admitted: int
    exits: int
    refused: int


class ReasonsView(CountsView):
    """The same, with the refused ones by reason, and how many of all were judged offline, forced by a supervisor, or
    annulled since (those stay among the admitted)."""

    refused_by_reason: dict[str, int]
    offline: int
    forced: int
    annulled: int


class GateCountsView(ReasonsView):
    """Those at a gate. `gate_id` is null for all scans that named none of the event's gates."""

    gate_id: str | None
    name: str | None


class BucketView(CountsView):
    """Those of the minute, hour or day that begins with `start`."""

    start: str


class StatisticsView(View):
    """Scans judged from `from` on and before `until`. `buckets` are those that have any, in order. `stale`: what was
    just confirmed may be missing."""

    event_id: str
    since: Annotated[str, Field(alias="from")]
    until: str
    step: Step
    time_zone: str
    totals: ReasonsView
    gates: list[GateCountsView]
    buckets: list[BucketView]
    stale: bool


@router.get("/{event_id}/statistics", summary="An event's scans counted by gate and by time")
async def statistics(
    event_id: PathId,
    call: LogReader,
    request: Request,
    since: From = None,
    until: Annotated[Time | None, Query()] = None,
    step: Annotated[Step, Query()] = "minute",
) -> StatisticsView:
    """Of a span of time (`from`, and `until`, which is excluded), or without one of the day of the newest scan. Days
    are those of the event's time zone, and minutes and hours are counted from their beginning; at most 1,560 at a time.

    503 `unavailable` where counting takes too long: ask for a shorter span."""
    view = await call.query(GetEvent(call.tenant_id, event_id), EventView)
    zone = view.terms.time_zone
    counting: Statistician = request.app.state.statistician
    if (since is None) != (until is None):
        missing = "from" if since is None else "until"
        detail = "`from` and `until` go together."
        raise Problem("malformed", detail, [FieldError(detail, parameter=missing)])
    in_order(since, until)
    if ms(until) >= YEAR_9999_MS:
        detail = "The time must be before 9999."
        raise Problem("malformed", detail, [FieldError(detail, parameter="until")])
    is_fresh = await call.is_fresh()
    if since is None:
        span = await counting.last_day(call.tenant_id, event_id, zone, call.parts.clock_ms())
    else:
        span = (ms(since), ms(until))
    names = {gate.gate_id: gate.name for gate in view.terms.gates}
    found = await counting.count(call.tenant_id, event_id, span, bucket_starts(span, step, zone), list(names))
    return StatisticsView(
        event_id=event_id,
        **{"from": rfc3339(span[0])},
        until=rfc3339(span[1]),
        step=step,
        time_zone=zone,
        totals=ReasonsView(**_with_reasons(found.totals)),
        gates=[
            GateCountsView(gate_id=gate_id or None, name=names.get(gate_id), **_with_reasons(tally))
            for gate_id, tally in sorted(found.gates.items())
        ],
        buckets=[
            BucketView(start=rfc3339(at_ms), admitted=tally.admitted, exits=tally.exits, refused=tally.refused)
            for at_ms, tally in found.buckets.items()
        ],
        stale=not is_fresh,
    )


def _with_reasons(tally: Tally) -> dict[str, Any]:
    return {
        "admitted": tally.admitted,
        "exits": tally.exits,
        "refused": tally.refused,
        "refused_by_reason": dict(sorted(tally.reasons.items())),
        "offline": tally.offline,
        "forced": tally.forced,
        "annulled": tally.annulled,
    }
