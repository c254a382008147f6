"""What an admission (or an exit) earns: the organisation's simple award for a first entry, and what rules make of it.
Pure.

An organisation without rules, and a moment that none of them is for, must cost next to nothing: nearly all check-ins
are so. What earns nothing but fixed points goes straight to facts (`actors.plain_awards`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from actors.calendar import local_day
from actors.card import Card
from actors.commands import CheckIn
from actors.coupon_grants import Grants
from actors.event import Attendance, Event
from actors.facts import Fact
from actors.freezing import is_event_frozen
from actors.ledger import LedgerDraft
from actors.plain_awards import NOTHING_EARNED, Earned, earned_of, is_plain, plain_awards
from actors.rule_run import RuleRun
from actors.tag import Tag
from actors.tenant import Tenant
from actors.visits import Visited, visits_on
from rules.evaluate import evaluate
from rules.expression_python import ASK_CEL
from rules.language import Trigger
from rules.model import Award, CheckInMoment
from rules.moment import EventView, ScanView, StreakView

NO_RULES_MOVED: Final = 0
UNKNOWN_RULES_MOVED: Final = -1


class Door(msgspec.Struct, gc=False):
    """What a scan meets: the event, the card's attendance of the session, and the gate's zone ("": none); and the
    card's tag, where that was tapped. `condition_failure`: why the admission rule's condition had no value."""

    event: Event
    seen: Attendance
    zone_id: str = ""
    session_id: str = ""
    tag: Tag | None = None
    condition_failure: str = ""


def earned_by(
    tenant: Tenant,
    card: Card,
    door: Door,
    command: CheckIn,
    at_ms: int,
    scanned_at_ms: int,
    visit: Visited,
    grants: Grants | None,
    *,
    is_first: bool = True,
) -> Earned:
    """What an admitted entry earns, on the day of the scan. `visit` is as of `actors.checkin.visit_of`; without
    `is_first` the simple award is not given. `grants` is there where the organisation has rules that grant."""
    entries = door.seen.entries + 1
    settings, rules = tenant.settings, tenant.rulebook
    awards = evaluate(settings.rules, CheckInMoment(card.tier, entries)) if is_first and settings.rules else ()
    moved = NO_RULES_MOVED
    if rules.rules and rules.hears_doors:
        moved = _moved(tenant, card, door, command, at_ms, scanned_at_ms, visit, is_earning=bool(awards))
    if not moved and not awards:
        return NOTHING_EARNED
    scored = event_id, event_earned = _scored_at(tenant, card, door, at_ms)
    given = rules.compiled.plain("checkin", moved) if moved > 0 else ()
    if given is not None and moved >= 0 and scanned_at_ms == at_ms and is_plain(tenant, card, at_ms):
        simple = [(award.points, f"{award.rule_id}:{award.version}") for award in awards]
        earned = plain_awards(tenant, card, at_ms, command.request_id, scored, simple, given)
        if earned is not None:
            return earned
    if not moved:
        return earned_of(_simple(tenant, card, command, awards, at_ms, scanned_at_ms, scored))
    run = RuleRun(
        tenant,
        card,
        at_ms,
        f"checkin:{command.request_id}",
        happened_ms=scanned_at_ms,
        visits=visit[0],
        event_id=event_id,
        event_earned=event_earned,
        grants=grants,
    )
    for award in awards:
        run.award_base(award.points, f"{award.rule_id}:{award.version}")
    _happens(run, "checkin", door.event, command, entries)
    if visit[1] and visit[0] is not None and rules.compiled.listens_to("streak_reached"):
        streak = visits_on(visit[0], visit[1])[3]
        if streak > visits_on(card.visits, visit[1])[3]:
            run.happens("streak_reached", streak=StreakView(streak))
    return earned_of(run.finished())


def _moved(
    tenant: Tenant,
    card: Card,
    door: Door,
    command: CheckIn,
    at_ms: int,
    scanned_at_ms: int,
    visit: Visited,
    *,
    is_earning: bool,
) -> int:
    """Which rules' conditions an admission meets, as of `Rulebook.moved_at_door`; `UNKNOWN_RULES_MOVED` where only a
    moment tells, or where what is earned may move further rules."""
    rules, zone = tenant.rulebook, tenant.settings.time_zone
    tell = rules.moved_at_door
    if tell is None or (visit[1] and rules.compiled.listens_to("streak_reached")):
        return UNKNOWN_RULES_MOVED
    visits = visit[0] or card.visits
    if visits.day != (visit[1] or local_day(scanned_at_ms, zone)):
        return UNKNOWN_RULES_MOVED  # a scan that comes late
    try:
        moved = tell(card, door.event, command, visits, door.seen.entries + 1, at_ms, scanned_at_ms, zone)
    except ASK_CEL:
        return UNKNOWN_RULES_MOVED  # an attribute is missing
    return UNKNOWN_RULES_MOVED if (is_earning or moved) and rules.hears_earnings else moved


def _simple(
    tenant: Tenant,
    card: Card,
    command: CheckIn,
    awards: Sequence[Award],
    at_ms: int,
    scanned_at_ms: int,
    scored: tuple[str, int],
) -> Sequence[Fact]:
    """The simple award alone."""
    draft = LedgerDraft(tenant, card, at_ms, earned_ms=scanned_at_ms)
    if card.lots or card.holds:
        draft.settle()
    event_id, event_earned = scored
    for award in awards:
        if event_id:
            event_earned += award.points
        draft.post(
            "award",
            award.points,
            f"checkin:{command.request_id}",
            rule=f"{award.rule_id}:{award.version}",
            event_id=event_id,
            earned=award.points,
            earned_day=draft.day,
            event_earned_after=event_earned,
        )
    return draft.finished()


def _scored_at(tenant: Tenant, card: Card, door: Door, at_ms: int) -> tuple[str, int]:
    """The event where what is earned counts, and what the card has there; none where its window is frozen."""
    event = door.event
    if event.terms.doors_close_ms and is_event_frozen(tenant.settings, event.terms, at_ms):
        return "", 0
    attended = event.attendance.get(card.card_id)
    return event.event_id, attended.earned if attended is not None else 0


def exit_rules(
    tenant: Tenant,
    card: Card,
    door: Door,
    command: CheckIn,
    at_ms: int,
    scanned_at_ms: int,
    grants: Grants | None,
) -> Earned:
    """What rules make of an exit; `grants` as of `earned_by`."""
    rules = tenant.rulebook
    if not rules.rules or card.state != "active" or not rules.compiled.listens_to("exit"):
        return NOTHING_EARNED
    run = RuleRun(tenant, card, at_ms, f"exit:{command.request_id}", happened_ms=scanned_at_ms, grants=grants)
    _happens(run, "exit", door.event, command, door.seen.entries)
    return earned_of(run.finished())


def _happens(run: RuleRun, trigger: Trigger, event: Event, command: CheckIn, entries: int) -> None:
    scan = ScanView(command.gate_id, command.direction, command.device_id, command.is_offline)
    place = EventView(event.event_id, event.terms.name, event.terms.tags, event.terms.doors_open_ms)
    run.happens(trigger, visits_event=entries, event=place, scan=scan)
