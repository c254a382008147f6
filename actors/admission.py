"""Whether an event's admission rule lets a card in: by its tier, the event's list, and a condition. Pure.

The condition (`actors.door_condition`) sees the card as it is now and the time of the scan; for a scan of a scanner
without a network, too, which nobody sends away any more: there its no is a conflict (`actors.offline`).
"""

from __future__ import annotations

from typing import Any

from actors.calendar import local_day
from actors.card import Card
from actors.commands import CheckIn
from actors.door_condition import whole_days
from actors.door_rules import Door
from actors.profiles import attributes_of
from actors.tenant import Tenant
from actors.visits import Visits, admitted, visits_on
from rules.conditions import EvaluationFailed
from rules.expression_python import ASK_CEL
from rules.moment import CardView, CountsView, EventView, MemberView, Moment, ScanView
from rules.schedule import local_time


def is_eligible(
    tenant: Tenant, card: Card, door: Door, command: CheckIn, seen_ms: int, now_ms: int, *, is_move: bool
) -> bool:
    """What the rule says of an entry at `seen_ms` that is judged at `now_ms`; `is_move`: from one zone to another. A
    condition without a value says no, and is noted at the door."""
    admission = door.event.terms.admission
    if admission.tiers and card.tier not in admission.tiers:
        return False
    if admission.list_only and card.card_id not in door.event.listed:
        return False
    if not admission.condition:
        return True
    visits, entries = card.visits, door.seen.entries
    if not is_move:
        day = local_day(seen_ms, tenant.settings.time_zone)
        visits, entries = admitted(visits, day, door.event.event_id)[0] or visits, entries + 1
    try:
        return _holds(tenant, card, door, command, (seen_ms, now_ms), visits, entries)
    except EvaluationFailed as failed:
        door.condition_failure = failed.reason
        return False


def _holds(
    tenant: Tenant, card: Card, door: Door, command: CheckIn, at: tuple[int, int], visits: Visits, entries: int
) -> bool:
    """Raises `EvaluationFailed`. `at`: when it was seen, when it is judged."""
    seen_ms, now_ms = at
    zone, condition = tenant.settings.time_zone, door.event.terms.admission.compiled
    # The quick one takes the counts as they stand, which are those of the card's last day.
    if condition.quick is not None and visits.day == local_day(seen_ms, zone):
        told: tuple[Any, ...] = (card, door.event, command, visits, entries, now_ms, seen_ms, zone)
        try:
            return bool(condition.quick(*told))
        except ASK_CEL:
            pass  # an attribute is missing
    return condition.holds(_moment(tenant, card, door, command, at, visits, entries))


def _moment(
    tenant: Tenant, card: Card, door: Door, command: CheckIn, at: tuple[int, int], visits: Visits, entries: int
) -> Moment:
    seen_ms, now_ms = at
    event, profile = door.event, card.profile
    now = local_time(seen_ms, tenant.settings.time_zone)
    today, this_week, _, streak = visits_on(visits, now.date)
    days = whole_days(card.issued_at_ms, seen_ms)
    return Moment(
        "checkin",
        seen_ms,
        now,
        CardView(card.card_id, card.tier, card.available(now_ms), card.earned, card.wallet, days),
        MemberView(card.member_id, profile.birthday, attributes_of(profile.attributes), profile.birth_year),
        CountsView(today, this_week, entries, visits.ever, streak),
        EventView(event.event_id, event.terms.name, event.terms.tags, event.terms.doors_open_ms),
        ScanView(command.gate_id, command.direction, command.device_id, command.is_offline),
    )
