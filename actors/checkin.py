"""Deciding a check-in: the verdict, what it does to the counts, and the points it earns. Pure.

The reasons are checked in the order of semantics.md ("Verdicts"); the first that fails is the reason. The request id
has been looked up before. What scanners without a network decided is recorded by `actors.offline`.
"""

from __future__ import annotations

import msgspec

from actors.admission import is_eligible
from actors.calendar import local_day
from actors.card import Card
from actors.commands import CheckIn
from actors.coupon_grants import Grants
from actors.door_facts import EveryoneLeft
from actors.door_rules import Door, earned_by, exit_rules
from actors.event import Attendance, Event, attendance_key
from actors.facts import Fact, ScanDetails, ScanJudged
from actors.freezing import part_of_visit
from actors.plain_awards import NOTHING_EARNED, Earned
from actors.refusals import (
    ALREADY_ADMITTED,
    CARD_EXPIRED,
    CARD_REVOKED,
    CARD_SUSPENDED,
    CREDENTIAL_EXPIRED,
    CREDENTIAL_INVALID,
    CREDENTIAL_REPLAYED,
    EVENT_CANCELLED,
    EVENT_CLOSED,
    EVENT_NOT_OPEN,
    FULL,
    GATE_CLOSED,
    GATE_UNKNOWN,
    NOT_ELIGIBLE,
    NOT_INSIDE,
)
from actors.tag import Tag
from actors.tenant import Tenant
from actors.terms import BoardPart, EventTerms, Gate, Session
from actors.visits import Visited, admitted

# What no supervisor overrides: who is not known, or shows what was shown before, whose card was taken away, a hall that
# is full, an event that is off.
NEVER_FORCED = frozenset(
    {CREDENTIAL_INVALID, CREDENTIAL_REPLAYED, CARD_REVOKED, EVENT_CANCELLED, GATE_UNKNOWN, FULL, NOT_INSIDE}
)
_NEVER_SEEN = Attendance()
_NO_DETAILS = ScanDetails()
# What a scan that leaves a card's visits as they are says of them, as of `visit_of`.
NO_VISIT: Visited = (None, 0, None)


def decide_check_in(
    tenant: Tenant,
    card: Card | None,
    event: Event,
    command: CheckIn,
    at_ms: int,
    tag: Tag | None = None,
    grants: Grants | None = None,
) -> list[Fact]:
    """The verdict on a scan, followed by the points it earned; before it, where the scan is the first of a session,
    that everybody left the one before. `card` is None when no such card exists, `tag` unless the card's was tapped,
    `grants` unless the organisation has rules that grant coupons."""
    door, before = come_to_door(event, command.card_id, command.gate_id, at_ms, tag)
    reason = reason_against(tenant, card, door, command, at_ms, at_ms)
    forced = ""
    if reason and command.forced_by and command.direction == "entry" and reason not in NEVER_FORCED:
        forced, reason = reason, _no_room(door)
        if reason:
            forced = ""
    if reason or command.direction == "exit":
        earned = NOTHING_EARNED
        if card is not None and not reason:
            earned = exit_rules(tenant, card, door, command, at_ms, at_ms, grants)
        return [*before, judged(card, door, command, at_ms, reason, forced, earned), *earned.facts]
    assert card is not None
    if _is_move(door):
        return [*before, judged(card, door, command, at_ms, "", forced)]
    visit = visit_of(tenant, card, event, at_ms, at_ms)
    is_active = card.state == "active"
    earned = earned_by(tenant, card, door, command, at_ms, at_ms, visit, grants) if is_active else NOTHING_EARNED
    return [*before, judged(card, door, command, at_ms, "", forced, earned, visit), *earned.facts]


def come_to_door(event: Event, card_id: str, gate_id: str, at_ms: int, tag: Tag | None) -> tuple[Door, list[Fact]]:
    """What a scan at this time meets; with it, that everybody left, where another session has begun."""
    terms = event.terms
    before: list[Fact] = []
    session_id = ""
    if terms.sessions:
        session = session_at(terms, at_ms)
        if session is not None:
            session_id = session.session_id
            if _is_later(terms, session_id, event.session_id):
                before = [session_begins(event, session, at_ms)]
                left_ms = session.doors_open_ms
                # Nobody is inside at the time of the scan. (Attendance is kept by session.)
                event = msgspec.structs.replace(event, inside=0, zones={}, session_id=session_id, left_ms=left_ms)
    seen = event.attendance.get(attendance_key(card_id, session_id), _NEVER_SEEN)
    gate = _gate(terms, gate_id) if gate_id and terms.zones else None
    return Door(event, seen, gate.zone_id if gate is not None else "", session_id, tag), before


def session_at(terms: EventTerms, at_ms: int) -> Session | None:
    """The session whose doors are open at a time."""
    return next((one for one in terms.sessions if one.doors_open_ms <= at_ms < one.doors_close_ms), None)


def _is_later(terms: EventTerms, session_id: str, than_id: str) -> bool:
    order = [session.session_id for session in terms.sessions]
    return than_id not in order or order.index(session_id) > order.index(than_id)


def session_begins(event: Event, session: Session, at_ms: int) -> EveryoneLeft:
    """Everybody left the session before when this one's doors opened."""
    head = (event.tenant_id, "", b"", at_ms, event.event_id)
    return EveryoneLeft(*head, session.doors_open_ms, event.inside, session.session_id)


def visit_of(tenant: Tenant, card: Card, event: Event, seen_ms: int, at_ms: int) -> Visited:
    """What an admission does that was made at `seen_ms` and is told at `at_ms`: the card's visits after it, None where
    it leaves them as they are; the day of the visit that it makes, 0 where it makes none; which part of boards that
    is, where not its own."""
    day = local_day(seen_ms, tenant.settings.time_zone)
    visits, is_new = admitted(card.visits, day, event.event_id)
    if not is_new:
        return visits, 0, None
    if seen_ms == at_ms and not event.terms.doors_close_ms:
        return visits, day, None  # nearly always: nothing of it is frozen
    return visits, day, part_of_visit(tenant.settings, event.terms, BoardPart(day, event.event_id), seen_ms, at_ms)


def reason_against(tenant: Tenant, card: Card | None, door: Door, command: CheckIn, at_ms: int, now_ms: int) -> str:
    """Why the scan of `at_ms` is refused at `now_ms`, "" if it is not."""
    if card is None or (command.serial != card.serial and door.tag is None):
        return CREDENTIAL_INVALID
    if command.valid_from_ms > at_ms or 0 < command.valid_until_ms <= at_ms:
        return CREDENTIAL_EXPIRED
    if door.tag is not None and command.tag_counter <= door.tag.counter:
        return CREDENTIAL_REPLAYED
    if card.state != "active":
        return CARD_REVOKED if card.state == "revoked" else CARD_SUSPENDED
    if card.valid_from_ms > at_ms or 0 < card.valid_until_ms <= at_ms:
        return CARD_EXPIRED
    reason = _reason_at_door(door.event, command, at_ms)
    if not reason and command.direction == "entry":
        is_move = _is_move(door)
        reason = "" if is_eligible(tenant, card, door, command, at_ms, now_ms, is_move=is_move) else NOT_ELIGIBLE
    return reason or _reason_of_attendance(door, command)


def _reason_at_door(event: Event, command: CheckIn, at_ms: int) -> str:
    terms = event.terms
    if terms.state == "cancelled":
        return EVENT_CANCELLED
    if terms.doors_open_ms > at_ms:
        return EVENT_NOT_OPEN
    if terms.state == "closed" or 0 < terms.doors_close_ms <= at_ms:
        return EVENT_CLOSED
    if terms.sessions and session_at(terms, at_ms) is None:
        return EVENT_NOT_OPEN if terms.sessions[-1].doors_open_ms > at_ms else EVENT_CLOSED
    if command.gate_id:
        gate = _gate(terms, command.gate_id)
        if gate is None:
            return GATE_UNKNOWN
        return "" if gate.is_open else GATE_CLOSED
    return ""


def _reason_of_attendance(door: Door, command: CheckIn) -> str:
    terms, seen = door.event.terms, door.seen
    if command.direction == "exit":
        return NOT_INSIDE if terms.strict_exit and not seen.is_inside else ""
    if not _is_move(door):
        if terms.reentry == "none" and seen.entries:
            return ALREADY_ADMITTED
        if seen.is_inside and terms.reentry != "multiple":
            return ALREADY_ADMITTED
    return _no_room(door)


def _no_room(door: Door) -> str:
    event, seen = door.event, door.seen
    if not seen.is_inside and event.inside >= event.terms.capacity:
        return FULL
    if door.zone_id and not (seen.is_inside and seen.zone_id == door.zone_id):
        zone = next((zone for zone in event.terms.zones if zone.zone_id == door.zone_id), None)
        if zone is not None and 0 < zone.capacity <= event.zones.get(zone.zone_id, 0):
            return FULL
    return ""


def _is_move(door: Door) -> bool:
    """Whether an entry takes somebody who is inside to another zone."""
    return bool(door.zone_id) and door.seen.is_inside and door.seen.zone_id != door.zone_id


def _gate(terms: EventTerms, gate_id: str) -> Gate | None:
    for gate in terms.gates:
        if gate.gate_id == gate_id:
            return gate
    return None


def judged(
    card: Card | None,
    door: Door,
    command: CheckIn,
    at_ms: int,
    reason: str,
    forced: str = "",
    earned: Earned = NOTHING_EARNED,
    visit: Visited = NO_VISIT,
) -> ScanJudged:
    """The scan as it goes on record, with the counts after it."""
    event, seen = door.event, door.seen
    inside, admitted, refused = event.inside, event.admitted, event.refused
    card_inside, entries = seen.is_inside, seen.entries
    if reason:
        refused += 1
    elif command.direction == "entry":
        if not _is_move(door):
            admitted += 1
            entries += 1
        if not card_inside:
            inside += 1
        card_inside = True
    elif card_inside:
        inside -= 1
        card_inside = False
    details = _NO_DETAILS if reason else zones_of(door, command)
    return scan_fact(
        card,
        door,
        command,
        at_ms,
        reason,
        (inside, admitted, refused, card_inside, entries),
        earned,
        _with_words(details, card, door, command, reason, forced),
        repeats=reason == ALREADY_ADMITTED,
        visit=visit,
    )


def zones_of(door: Door, command: CheckIn) -> ScanDetails:
    """The zones that somebody who is let in or out leaves and enters."""
    event, seen, zone_id = door.event, door.seen, door.zone_id
    if not event.terms.zones:
        return _NO_DETAILS
    left_id = seen.zone_id if seen.is_inside else ""
    entered_id = zone_id if command.direction == "entry" else ""
    if left_id == entered_id:
        return ScanDetails(zone_id=entered_id, zone_inside=event.zones.get(entered_id, 0))
    is_move = command.direction == "entry" and _is_move(door)
    return ScanDetails(
        entered_id,
        event.zones.get(entered_id, 0) + 1 if entered_id else 0,
        left_id,
        event.zones.get(left_id, 0) - 1 if left_id else 0,
        is_move,
        is_latest_entry=not is_move,
    )


def _with_words(
    details: ScanDetails, card: Card | None, door: Door, command: CheckIn, reason: str, forced: str
) -> ScanDetails | None:
    """The details with session and words; None where there is nothing to tell."""
    terms = door.event.terms
    message = terms.admission.message if reason == NOT_ELIGIBLE else ""
    attention = card.seldom.attention if card is not None else ""
    questions: tuple[str, ...] = ()
    if terms.questions and not reason and command.direction == "entry":
        attended = door.event.attendance.get(command.card_id)
        answered = attended.answered if attended is not None else ()
        questions = tuple(one.question_id for one in terms.questions if one.question_id not in answered)
    was_inside = not reason and command.direction == "entry" and door.seen.is_inside and not details.is_move
    if message or attention or questions or forced or was_inside or door.session_id or door.condition_failure:
        return msgspec.structs.replace(
            details,
            session_id=door.session_id,
            forced=forced,
            forced_by=command.forced_by if forced else "",
            message=message,
            attention=attention,
            questions=questions,
            was_inside=was_inside,
            condition_failure=door.condition_failure,
        )
    return None if details is _NO_DETAILS or not terms.zones else details


def scan_fact(
    card: Card | None,
    door: Door,
    command: CheckIn,
    at_ms: int,
    reason: str,
    counts: tuple[int, int, int, bool, int],
    earned: Earned,
    details: ScanDetails | None,
    *,
    repeats: bool,
    scanned_at_ms: int = 0,
    visit: Visited = NO_VISIT,
) -> ScanJudged:
    """The fact; `counts` are inside, admitted, refused, whether the card is inside, and its entries."""
    seen, tag = door.seen, door.tag
    if tag is not None:
        counter = max(tag.counter, command.tag_counter)
        details = msgspec.structs.replace(details or _NO_DETAILS, tag_uid=tag.tag_uid, tag_counter=counter)
    inside, admitted, refused, card_inside, entries = counts
    return ScanJudged(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        at_ms,
        door.event.event_id,
        command.card_id,
        command.gate_id,
        command.device_id,
        command.direction,
        scanned_at_ms or command.scanned_at_ms or at_ms,
        reason,
        card.member_id if card else "",
        card.member_name if card else "",
        card.tier if card else "",
        inside,
        admitted,
        refused,
        door.event.terms.capacity,
        card_inside,
        entries,
        earned.points,
        earned.balance if earned.entry_seq else (card.balance if card else 0),
        seen.admitted_at_ms if repeats else 0,
        seen.gate_id if repeats else "",
        seen.device_id if repeats else "",
        earned.entry_seq,
        details,
        visit[0],
        visit[1],
        earned.units,
        visit[2],
    )
