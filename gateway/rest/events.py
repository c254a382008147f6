"""Events, their gates and their attendance. Gate ids are derived from the request, so a retry names the same gate."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Response
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from actors.commands import ChangeEvent, CreateEvent, fingerprint
from actors.facts import EventChanged, EventCreated
from actors.queries import GetEvent
from actors.replies import EventView as EngineEventView
from actors.terms import CAPACITY_MAX, NEVER, Admission, EventTerms, Gate
from actors.versions import event_version, gate_version
from gateway import limits
from gateway.ids import derived_id
from gateway.lists import EventRow, list_events
from gateway.problems import Problem
from gateway.render import rfc3339_or_none
from gateway.rest.common import Allowed, Body, Call, Cursor, Id, Limit, Name, PathId, Time, TimeZone, View, ms, set_ms
from gateway.rest.event_fields import DoorFields, DoorView, door_view
from gateway.rest.preconditions import Copied, Editing, tag_of

Capacity = Annotated[int, Field(ge=1, le=CAPACITY_MAX)]
Reentry = Literal["none", "after_exit", "multiple"]
EventState = Literal["open", "closed", "cancelled"]
Creator = Annotated[Call, Depends(Allowed("events.create"))]
Changer = Annotated[Call, Depends(Allowed("events.change"))]
EventReader = Annotated[Call, Depends(Allowed("events.read"))]
router = APIRouter(prefix="/v1/events", tags=["events"])


class NewGate(Body):
    """A door; whoever enters by it is in zone `zone_id`."""

    name: Name
    zone_id: Id | None = None


class GateChange(Body):
    """What is left out stays as it is. A closed gate refuses with `gate_closed`."""

    name: Name | None = None
    open: bool | None = None
    zone_id: Id | None = None


class EventTimes(DoorFields):
    """Doors: before `doors_open` scans are refused with `event_not_open`, from `doors_close` on with `event_closed`."""

    doors_open: Time | None = None
    doors_close: Time | None = None

    @model_validator(mode="after")
    def _in_order(self) -> EventTimes:
        if self.doors_open and self.doors_close and self.doors_close <= self.doors_open:
            raise PydanticCustomError("doors_order", "doors_close must be after doors_open")
        return self


class NewEvent(EventTimes):
    """`capacity` bounds the people inside at a time. Without a `time_zone` the event goes by the organisation's."""

    name: Name
    capacity: Capacity
    time_zone: TimeZone | None = None
    reentry: Reentry = "after_exit"
    strict_exit: bool = True
    gates: Annotated[list[NewGate], Field(max_length=limits.GATES_AT_CREATION_MAX, default_factory=list)]


class EventChange(EventTimes):
    """What is left out stays as it is; doors without a time (null) open, or stay open, by the event's state alone."""

    name: Name | None = None
    capacity: Capacity | None = None
    time_zone: TimeZone | None = None
    reentry: Reentry | None = None
    strict_exit: bool | None = None
    state: EventState | None = None


class GateView(View):
    """A door."""

    id: str
    name: str
    open: bool
    zone_id: str | None


class EventView(DoorView):
    """An event."""

    id: str
    name: str
    capacity: int
    time_zone: str
    doors_open: str | None
    doors_close: str | None
    reentry: str
    strict_exit: bool
    state: str
    gates: list[GateView]


class EventSummary(View):
    """An event in a list, with its counts as projected."""

    id: str
    name: str
    state: str
    capacity: int
    doors_open: str | None
    doors_close: str | None
    inside: int
    admitted: int
    refused: int


class EventPage(View):
    """A page of events. `stale`: what was just confirmed may be missing."""

    items: list[EventSummary]
    next_cursor: str | None
    stale: bool


class ZoneCount(View):
    """The people in a zone."""

    id: str
    name: str
    inside: int
    capacity: int | None


class AttendanceView(View):
    """Live counts: people inside now, entries admitted and scans refused so far."""

    event_id: str
    name: str
    state: str
    inside: int
    admitted: int
    refused: int
    capacity: int
    session_id: str | None
    zones: list[ZoneCount]


@router.post("", status_code=201, summary="Create an event")
async def create_event(body: NewEvent, call: Creator) -> EventView:
    """Gates can be given here or added later."""
    gates = tuple(
        Gate(derived_id("gate", call.tenant_id, call.request_id, str(index)), gate.name, True, gate.zone_id or "")
        for index, gate in enumerate(body.gates)
    )
    terms = EventTerms(
        body.name,
        body.capacity,
        body.time_zone or "",
        ms(body.doors_open),
        ms(body.doors_close),
        body.reentry,
        body.strict_exit,
        "open",
        gates,
        body.zones_of(call.tenant_id, call.request_id) or (),
        body.sessions_of(call.tenant_id, call.request_id) or (),
        body.admission_of() or Admission(),
        NEVER if body.exit_all_at is None else body.exit_all_minute() or 0,
        body.questions_of(call.tenant_id, call.request_id) or (),
        body.tags_of() or (),
    )
    event_id = call.parts.ids.entity("evt")
    fact = await call.tell(CreateEvent(call.tenant_id, call.request_id, b"", event_id, terms), EventCreated)
    return event_view(fact.event_id, fact.terms)


@router.get("", summary="Events")
async def events(call: EventReader, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None) -> EventPage:
    """Oldest first."""
    if call.caller.event_id:
        raise Problem("forbidden", "A device that is bound to an event sees that event only.")
    is_fresh = await call.is_fresh()
    page = await list_events(call.parts.pool, call.tenant_id, limit, cursor)
    items = [_summary(row) for row in page.rows]
    return EventPage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


@router.get("/{event_id}", summary="An event")
async def get_event(event_id: PathId, call: EventReader, copied: Copied) -> EventView:
    """As it is now. The `ETag` stands for the event with its gates."""
    call.sees_event(event_id)
    view = await call.query(GetEvent(call.tenant_id, event_id), EngineEventView)
    copied.tagged(tag_of(event_version(view.terms)))
    return event_view(view.event_id, view.terms)


@router.patch("/{event_id}", summary="Change an event")
async def change_event(event_id: PathId, body: EventChange, call: Changer, edit: Editing) -> EventView:
    """Changes what is given. The capacity cannot go below the number of people inside."""
    fact = await call.tell(
        ChangeEvent(
            call.tenant_id,
            call.request_id,
            b"",
            event_id,
            body.name,
            body.capacity,
            body.time_zone,
            set_ms(body, "doors_open"),
            set_ms(body, "doors_close"),
            body.reentry,
            body.strict_exit,
            body.state,
            if_version=edit.versions,
            zones=body.zones_of(call.tenant_id, call.request_id),
            sessions=body.sessions_of(call.tenant_id, call.request_id),
            admission=body.admission_of(),
            exit_all_minute=body.exit_all_minute(),
            questions=body.questions_of(call.tenant_id, call.request_id),
            tags=body.tags_of(),
        ),
        EventChanged,
    )
    edit.tagged(tag_of(event_version(fact.terms)))
    return event_view(fact.event_id, fact.terms)


@router.post("/{event_id}/gates", status_code=201, summary="Add a gate")
async def add_gate(event_id: PathId, body: NewGate, call: Changer, response: Response) -> GateView:
    """A new door, open. The `ETag` is the gate's own."""
    gate = Gate(derived_id("gate", call.tenant_id, call.request_id), body.name, True, body.zone_id or "")
    await call.tell(ChangeEvent(call.tenant_id, call.request_id, b"", event_id, gate=gate), EventChanged)
    response.headers["ETag"] = tag_of(gate_version(gate))
    return _gate_view(gate)


@router.patch("/{event_id}/gates/{gate_id}", summary="Open, close or rename a gate")
async def change_gate(event_id: PathId, gate_id: PathId, body: GateChange, call: Changer, edit: Editing) -> GateView:
    """Takes effect with the next scan. `If-Match` is about the gate by itself, whatever else the event does; its `ETag`
    comes with this answer, and with that to adding it."""
    view = await call.query(GetEvent(call.tenant_id, event_id), EngineEventView)
    seen = _gate_of(view.terms, gate_id)
    if seen is None:
        raise Problem("not_found", "The event has no such gate.")
    # What is asked, whatever the gate looks like by now: a retry is the same request.
    asked = ChangeEvent(
        call.tenant_id,
        call.request_id,
        b"",
        event_id,
        body.name,
        gate=Gate(gate_id, str(body.open), True, body.zone_id or ""),
        if_version=edit.versions,
    )
    changed = Gate(
        gate_id,
        seen.name if body.name is None else body.name,
        seen.is_open if body.open is None else body.open,
        seen.zone_id if body.zone_id is None else body.zone_id,
    )
    # The rest of the gate is as it was just seen, so only that version will do, if it is one of those that are named.
    only = None if edit.versions is None else tuple({gate_version(seen)} & set(edit.versions))
    command = msgspec.structs.replace(asked, name=None, gate=changed, if_version=only, fingerprint=fingerprint(asked))
    fact = await call.tell(command, EventChanged)
    gate = _gate_of(fact.terms, gate_id) or changed
    edit.tagged(tag_of(gate_version(gate)))
    return _gate_view(gate)


@router.get("/{event_id}/attendance", summary="Live counts of an event")
async def attendance(event_id: PathId, call: EventReader) -> AttendanceView:
    """From the engine's memory, durable state only."""
    call.sees_event(event_id)
    view = await call.query(GetEvent(call.tenant_id, event_id), EngineEventView)
    return AttendanceView(
        event_id=view.event_id,
        name=view.terms.name,
        state=view.terms.state,
        inside=view.inside,
        admitted=view.admitted,
        refused=view.refused,
        capacity=view.terms.capacity,
        session_id=view.session_id or None,
        zones=[
            ZoneCount(
                id=zone.zone_id,
                name=zone.name,
                inside=view.zones.get(zone.zone_id, 0),
                capacity=zone.capacity or None,
            )
            for zone in view.terms.zones
        ],
    )


def event_view(event_id: str, terms: EventTerms) -> EventView:
    """An event's terms as clients see them."""
    return EventView(
        id=event_id,
        name=terms.name,
        capacity=terms.capacity,
        time_zone=terms.time_zone,
        doors_open=rfc3339_or_none(terms.doors_open_ms),
        doors_close=rfc3339_or_none(terms.doors_close_ms),
        reentry=terms.reentry,
        strict_exit=terms.strict_exit,
        state=terms.state,
        gates=[_gate_view(gate) for gate in terms.gates],
        **dict(door_view(terms)),
    )


def _gate_of(terms: EventTerms, gate_id: str) -> Gate | None:
    return next((gate for gate in terms.gates if gate.gate_id == gate_id), None)


def _gate_view(gate: Gate) -> GateView:
    return GateView(id=gate.gate_id, name=gate.name, open=gate.is_open, zone_id=gate.zone_id or None)


def _summary(row: EventRow) -> EventSummary:
    return EventSummary(
        id=row.event_id,
        name=row.name,
        state=row.state,
        capacity=row.capacity,
        doors_open=rfc3339_or_none(row.doors_open_ms),
        doors_close=rfc3339_or_none(row.doors_close_ms),
        inside=row.inside,
        admitted=row.admitted,
        refused=row.refused,
    )
