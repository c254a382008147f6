"""From facts about an event's doors to rows. Rules as in `storage.rows`."""

from __future__ import annotations

from actors.door_facts import AdmissionListChanged, CardNoted, DoorFact, EveryoneLeft, ScanAnnulled
from actors.facts import ScanDetails, ScanJudged
from storage.row_batch import RowBatch
from storage.state_tables import ADMISSION_LIST, ANNULMENTS, ANSWERS, EVENT_ZONES, Row

_ORDINARY = ScanDetails()


def take_scan(batch: RowBatch, fact: ScanJudged, position: int) -> None:
    """A scan, what it does to the counts, and where the card is since."""
    tenant_id, event_id, card_id = fact.tenant_id, fact.event_id, fact.card_id
    at_ms, reason, details = fact.at_ms, fact.reason, fact.details
    row: Row = (
        tenant_id,
        event_id,
        position,
        at_ms,
        fact.scanned_at_ms,
        fact.request_id,
        card_id,
        fact.gate_id,
        fact.device_id,
        fact.direction,
        reason,
        fact.member_id,
        fact.member_name,
        fact.tier,
        fact.inside,
        fact.admitted,
        fact.points_awarded,
        fact.points_balance,
        fact.first_at_ms,
        fact.first_gate_id,
        fact.first_device_id,
    )
    if details is None:
        batch.scans.append(row)
    else:
        told = (details.zone_id, details.session_id, details.is_offline, details.conflict)
        batch.detailed_scans.append((*row, *told, details.forced, details.forced_by))
    event = batch.event(tenant_id, event_id)
    event.position = position
    event.inside = fact.inside
    event.admitted = fact.admitted
    event.refused = fact.refused
    if not reason:
        _presence(batch, fact, details or _ORDINARY, position)


def _presence(batch: RowBatch, fact: ScanJudged, details: ScanDetails, position: int) -> None:
    if not fact.member_id:
        return  # an unknown card, let in without a network: counted nowhere
    key = (fact.tenant_id, fact.event_id)
    if details.left_zone_id:
        batch.set_state(EVENT_ZONES, (*key, details.left_zone_id, details.left_zone_inside, position))
    if details.zone_id:
        batch.set_state(EVENT_ZONES, (*key, details.zone_id, details.zone_inside, position))
    attendance = batch.attended(*key, fact.card_id, details.session_id)
    attendance.position = position
    attendance.is_inside = fact.card_inside
    seen_ms = fact.scanned_at_ms if details.is_offline else fact.at_ms
    if fact.direction == "entry":
        attendance.entries = fact.card_entries
        if details.is_latest_entry:
            attendance.admitted_at_ms = seen_ms
            attendance.gate_id = fact.gate_id
            attendance.device_id = fact.device_id
    if details.is_latest:
        attendance.seen_ms = seen_ms
        attendance.zone_id = details.zone_id


def take_door_fact(batch: RowBatch, fact: DoorFact, position: int) -> None:
    """What else happens at an event's doors."""
    assert not isinstance(fact, CardNoted), "that is about a card"
    key = (fact.tenant_id, fact.event_id)
    event = batch.event(*key)
    event.position = position
    if isinstance(fact, ScanAnnulled):
        _annulled(batch, fact, position)
    elif isinstance(fact, EveryoneLeft):
        event.inside, event.left_ms = 0, fact.left_ms
        if fact.session_id:
            event.session_id = fact.session_id
        _left(batch, key)
    elif isinstance(fact, AdmissionListChanged):
        for card_id in fact.added:
            batch.set_state(ADMISSION_LIST, (*key, card_id, True, position))
        for card_id in fact.removed:
            batch.set_state(ADMISSION_LIST, (*key, card_id, False, position))
    else:
        attendance = batch.attended(*key, fact.card_id)
        attendance.answered, attendance.position = ",".join(fact.answered), position
        for question_id, answer in fact.answers:
            batch.set_state(ANSWERS, (*key, fact.card_id, question_id, answer, fact.at_ms, position))


def _annulled(batch: RowBatch, fact: ScanAnnulled, position: int) -> None:
    key = (fact.tenant_id, fact.event_id)
    batch.set_state(ANNULMENTS, (*key, fact.scan_id, fact.card_id, fact.device_id, fact.at_ms, position))
    event = batch.event(*key)
    event.inside, event.admitted = fact.inside, fact.admitted
    if fact.zone_id:
        batch.set_state(EVENT_ZONES, (*key, fact.zone_id, fact.zone_inside, position))
    if fact.back_zone_id:
        batch.set_state(EVENT_ZONES, (*key, fact.back_zone_id, fact.back_zone_inside, position))
    attendance = batch.attended(*key, fact.card_id, fact.session_id)
    attendance.position = position
    attendance.is_inside, attendance.entries = fact.card_inside, fact.card_entries
    attendance.zone_id, attendance.seen_ms = fact.back_zone_id, fact.at_ms
    if not fact.card_inside:
        attendance.admitted_at_ms, attendance.gate_id, attendance.device_id = 0, "", ""


def _left(batch: RowBatch, key: tuple[str, str]) -> None:
    """What the batch says so far of who is inside is over; what Postgres says the writer sees to."""
    batch.left.add(key)
    for attendance in batch.attendance.values():
        if (attendance.tenant_id, attendance.event_id) == key:
            attendance.is_inside = False if attendance.is_inside is not None else None
            attendance.zone_id = "" if attendance.zone_id is not None else None
    zones = batch.states.get(EVENT_ZONES.name, {})
    for zone_key in list(zones):
        if zone_key[:2] == key:
            zones[zone_key] = (*zone_key, 0, zones[zone_key][-1])
