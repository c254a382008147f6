"""Recording what scanners without a network decided. Pure.

Rules:
1. A person whom an offline scanner let in is inside, whatever the door would have said: the reason against it becomes
   the scan's `conflict`. One whom it let out is out, one whom it refused stays refused.
2. The order of arrival makes no difference to what is so in the end: the scan with the latest time says where the
   card is (an exit before an entry of the same time), the entries are added up, the first that arrives earns what a
   first entry earns. The time is that of the scan, corrected by the clock's offset, and not after its arrival.
3. A scan of a session that is over, or from before everybody left, calls nobody back inside.
4. A card that is not known is recorded, and counted nowhere.
5. What the card is now is what counts against a scan: one with a credential that was good when it was made conflicts if
   the card has been issued again since, and a tap whose counter is not above the tag's last one, though nobody may have
   shown it twice.
"""

from __future__ import annotations

import msgspec

from actors.card import Card
from actors.checkin import NO_VISIT, come_to_door, reason_against, scan_fact, visit_of, zones_of
from actors.commands import CheckIn
from actors.coupon_grants import Grants
from actors.door_rules import Door, earned_by, exit_rules
from actors.event import Event
from actors.facts import Fact, ScanDetails
from actors.plain_awards import NOTHING_EARNED, Earned
from actors.refusals import ALREADY_ADMITTED
from actors.tag import Tag
from actors.tenant import Tenant
from actors.visits import Visited


def decide_offline(
    tenant: Tenant,
    card: Card | None,
    event: Event,
    command: CheckIn,
    at_ms: int,
    tag: Tag | None = None,
    grants: Grants | None = None,
) -> list[Fact]:
    """What is put on record, with what it earned."""
    seen_ms = min(command.scanned_at_ms or at_ms, at_ms)
    door, before = come_to_door(event, command.card_id, command.gate_id, seen_ms, tag)
    if command.offline_reason or card is None:
        return [*before, _unchanged(card, door, command, at_ms, seen_ms)]
    conflict = reason_against(tenant, card, door, command, seen_ms, at_ms)
    if command.direction == "exit":
        left = exit_rules(tenant, card, door, command, at_ms, seen_ms, grants)
        return [*before, _moved(card, door, command, at_ms, seen_ms, conflict, left, NO_VISIT), *left.facts]
    visit = visit_of(tenant, card, event, seen_ms, at_ms)
    earned = NOTHING_EARNED
    if card.state == "active":
        is_first = not door.seen.entries
        earned = earned_by(tenant, card, door, command, at_ms, seen_ms, visit, grants, is_first=is_first)
    return [*before, _moved(card, door, command, at_ms, seen_ms, conflict, earned, visit), *earned.facts]


def _unchanged(card: Card | None, door: Door, command: CheckIn, at_ms: int, seen_ms: int) -> Fact:
    event, seen = door.event, door.seen
    reason = command.offline_reason
    counts = (event.inside, event.admitted, event.refused + bool(reason), seen.is_inside, seen.entries)
    conflict = "" if reason else "credential_invalid"
    details = ScanDetails(session_id=door.session_id, is_offline=True, conflict=conflict)
    return scan_fact(
        card, door, command, at_ms, reason, counts, NOTHING_EARNED, details, repeats=False, scanned_at_ms=seen_ms
    )


def _moved(
    card: Card,
    door: Door,
    command: CheckIn,
    at_ms: int,
    seen_ms: int,
    conflict: str,
    earned: Earned,
    visit: Visited,
) -> Fact:
    event, seen = door.event, door.seen
    is_entry = command.direction == "entry"
    is_of_now = seen_ms >= event.left_ms and door.session_id in ("", event.session_id)
    is_latest = is_of_now and (seen_ms > seen.seen_ms if is_entry else seen_ms >= seen.seen_ms)
    is_inside = is_entry if is_latest else seen.is_inside
    counts = (
        event.inside + is_inside - seen.is_inside,
        event.admitted + is_entry,
        event.refused,
        is_inside,
        seen.entries + is_entry,
    )
    zones = zones_of(door, command) if is_latest else ScanDetails()
    details = msgspec.structs.replace(
        zones,
        session_id=door.session_id,
        is_offline=True,
        conflict=conflict,
        is_latest=is_latest,
        is_latest_entry=is_entry and seen_ms >= seen.admitted_at_ms,
        attention=card.attention,
        was_inside=is_entry and seen.is_inside and not zones.is_move,
        condition_failure=door.condition_failure,
    )
    return scan_fact(
        card,
        door,
        command,
        at_ms,
        "",
        counts,
        earned,
        details,
        repeats=conflict == ALREADY_ADMITTED,
        scanned_at_ms=seen_ms,
        visit=visit,
    )
