"""Deciding a check-in: the verdict, what it does to the counts, and the points it earns. Pure.

The reasons are checked in the order of semantics.md ("Verdicts"); the first that fails is the reason. The request id
has been looked up before.
"""

from __future__ import annotations

from actors.card import Card
from actors.commands import CheckIn
from actors.event import Attendance, Event
from actors.facts import Fact, ScanJudged
from actors.ledger import LedgerDraft
from actors.refusals import (
    ALREADY_ADMITTED,
    CARD_EXPIRED,
    CARD_REVOKED,
    CARD_SUSPENDED,
    CREDENTIAL_EXPIRED,
    CREDENTIAL_INVALID,
    EVENT_CANCELLED,
    EVENT_CLOSED,
    EVENT_NOT_OPEN,
    FULL,
    GATE_CLOSED,
    GATE_UNKNOWN,
    NOT_INSIDE,
)
from actors.tenant import Tenant
from rules.evaluate import evaluate
from rules.model import CheckInMoment

_NEVER_SEEN = Attendance()


def decide_check_in(tenant: Tenant, card: Card | None, event: Event, command: CheckIn, at_ms: int) -> list[Fact]:
    """The verdict on a scan, followed by the points it earned. `card` is None when no such card exists."""
    seen = event.attendance.get(command.card_id, _NEVER_SEEN)
    reason = _reason(card, event, seen, command, at_ms)
    if reason:
        return [_judged(card, event, seen, command, at_ms, reason)]
    assert card is not None
    if command.direction == "exit":
        return [_judged(card, event, seen, command, at_ms, "")]
    awards = evaluate(tenant.settings.rules, CheckInMoment(card.tier, seen.entries + 1))
    if not awards:
        return [_judged(card, event, seen, command, at_ms, "")]
    draft = LedgerDraft(tenant, card, at_ms)
    if card.lots or card.holds:
        draft.settle()
    event_earned = seen.earned
    for award in awards:
        event_earned += award.points
        draft.post(
            "award",
            award.points,
            f"checkin:{command.request_id}",
            rule=f"{award.rule_id}:{award.version}",
            event_id=event.event_id,
            earned=award.points,
            earned_day=draft.day,
            event_earned_after=event_earned,
        )
    awarded = event_earned - seen.earned
    return [_judged(card, event, seen, command, at_ms, "", awarded, draft.balance), *draft.finished()]


def _reason(card: Card | None, event: Event, seen: Attendance, command: CheckIn, at_ms: int) -> str:
    if card is None:
        return CREDENTIAL_INVALID
    if command.valid_from_ms > at_ms or 0 < command.valid_until_ms <= at_ms:
        return CREDENTIAL_EXPIRED
    if card.state != "active":
        return CARD_REVOKED if card.state == "revoked" else CARD_SUSPENDED
    if card.valid_from_ms > at_ms or 0 < card.valid_until_ms <= at_ms:
        return CARD_EXPIRED
    return _reason_at_door(event, command, at_ms) or _reason_of_attendance(event, seen, command)


def _reason_at_door(event: Event, command: CheckIn, at_ms: int) -> str:
    terms = event.terms
    if terms.state == "cancelled":
        return EVENT_CANCELLED
    if terms.doors_open_ms > at_ms:
        return EVENT_NOT_OPEN
    if terms.state == "closed" or 0 < terms.doors_close_ms <= at_ms:
        return EVENT_CLOSED
    if command.gate_id:
        for gate in terms.gates:
            if gate.gate_id == command.gate_id:
                return "" if gate.is_open else GATE_CLOSED
        return GATE_UNKNOWN
    return ""


def _reason_of_attendance(event: Event, seen: Attendance, command: CheckIn) -> str:
    terms = event.terms
    if command.direction == "exit":
        return NOT_INSIDE if terms.strict_exit and not seen.is_inside else ""
    if terms.reentry == "none" and seen.entries:
        return ALREADY_ADMITTED
    if seen.is_inside:
        return "" if terms.reentry == "multiple" else ALREADY_ADMITTED
    return FULL if event.inside >= terms.capacity else ""


def _judged(
    card: Card | None,
    event: Event,
    seen: Attendance,
    command: CheckIn,
    at_ms: int,
    reason: str,
    points_awarded: int = 0,
    points_balance: int | None = None,
) -> ScanJudged:
    is_entry = command.direction == "entry"
    inside, admitted, refused = event.inside, event.admitted, event.refused
    card_inside, entries = seen.is_inside, seen.entries
    if reason:
        refused += 1
    elif is_entry:
        admitted += 1
        entries += 1
        if not card_inside:
            inside += 1
        card_inside = True
    elif card_inside:
        inside -= 1
        card_inside = False
    repeats = reason == ALREADY_ADMITTED
    return ScanJudged(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        at_ms,
        event.event_id,
        command.card_id,
        command.gate_id,
        command.device_id,
        command.direction,
        command.scanned_at_ms or at_ms,
        reason,
        card.member_id if card else "",
        card.member_name if card else "",
        card.tier if card else "",
        inside,
        admitted,
        refused,
        event.terms.capacity,
        card_inside,
        entries,
        points_awarded,
        points_balance if points_balance is not None else (card.balance if card else 0),
        seen.admitted_at_ms if repeats else 0,
        seen.gate_id if repeats else "",
        seen.device_id if repeats else "",
    )
