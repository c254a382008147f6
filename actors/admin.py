"""Deciding what organisers ask: tenants, cards and events. Pure; refusals come back as facts."""

from __future__ import annotations

import msgspec

from actors.board import fault_of_boards
from actors.board_commands import SetBoards
from actors.card import Card
from actors.card_facts import TierReviewed
from actors.commands import (
    ChangeCardState,
    ChangeEvent,
    ChangePlan,
    ChangeTenant,
    CreateEvent,
    IssueCard,
    OpenTenant,
    RenameCardHolder,
)
from actors.coupon_grants import Grants
from actors.doors import event_alarm
from actors.event import Event
from actors.event_terms import fault_of_terms
from actors.facts import (
    AlarmSet,
    CardHolderRenamed,
    CardIssued,
    CardStateChanged,
    CommandRefused,
    EventChanged,
    EventCreated,
    Fact,
    TenantChanged,
    TenantOpened,
)
from actors.profiles import fault_of_profile, next_birthday
from actors.refusals import (
    CAPACITY_INVALID,
    CARD_REVOKED,
    LIMIT_REACHED,
    PRECONDITION_FAILED,
    QUOTA_EXCEEDED,
    TERMS_INVALID,
)
from actors.rounds import rescheduled
from actors.rule_run import RuleRun
from actors.scope import Scope
from actors.terms import CAPACITY_MAX, CARDS_PER_FREE_TENANT_MAX, GATES_PER_EVENT_MAX, EventTerms, Gate
from actors.tier_commands import SetTiers
from actors.tiers import Standing, fault_of_tiers, review_ms
from actors.versions import boards_version, event_version, gate_version, tenant_version, tiers_version
from rules.model import Rule

CHECKIN_RULE_ID = "rule_checkin"
CHANGED_MEANWHILE = "it is not as it was in any of the versions that the change is for"


def decide_open_tenant(command: OpenTenant, at_ms: int) -> list[Fact]:
    """Opens an organisation."""
    return [
        TenantOpened(command.tenant_id, command.request_id, command.fingerprint, at_ms, command.name, command.settings)
    ]


def decide_change_tenant(scope: Scope, command: ChangeTenant, at_ms: int) -> list[Fact]:
    """Changes what is given, if the condition holds; a changed check-in rule gets its next version."""
    tenant, settings = scope.tenant, scope.tenant.settings
    if command.if_version is not None and tenant_version(tenant.name, settings) not in command.if_version:
        return [_refused(command, tenant.tenant_id, PRECONDITION_FAILED, CHANGED_MEANWHILE, at_ms)]
    rules = settings.rules
    if command.checkin_points is not None:
        rules = _with_checkin_points(rules, command.checkin_points)
    settings = msgspec.structs.replace(
        settings,
        time_zone=settings.time_zone if command.time_zone is None else command.time_zone,
        overdraft_max=settings.overdraft_max if command.overdraft_max is None else command.overdraft_max,
        rules=rules,
        lapsed_grace_ms=settings.lapsed_grace_ms if command.lapsed_grace_ms is None else command.lapsed_grace_ms,
    )
    name = tenant.name if command.name is None else command.name
    changed = TenantChanged(command.tenant_id, command.request_id, command.fingerprint, at_ms, name, settings)
    return [changed, *rescheduled(tenant, tenant.rulebook, settings.time_zone, at_ms)]


def decide_change_plan(scope: Scope, command: ChangePlan, at_ms: int) -> list[Fact]:
    """Changes the plan; nobody loses what they have."""
    tenant = scope.tenant
    settings = msgspec.structs.replace(tenant.settings, plan=command.plan)
    return [TenantChanged(command.tenant_id, command.request_id, command.fingerprint, at_ms, tenant.name, settings)]


def decide_set_tiers(scope: Scope, command: SetTiers, at_ms: int) -> list[Fact]:
    """Sets how cards come into tiers, if the condition holds and unless it makes no sense."""
    tenant = scope.tenant
    if command.if_version is not None and tiers_version(tenant.settings.tiers) not in command.if_version:
        return [_refused(command, tenant.tenant_id, PRECONDITION_FAILED, CHANGED_MEANWHILE, at_ms)]
    fault = fault_of_tiers(command.tiers) if command.tiers is not None else ""
    if fault:
        return [_refused(command, tenant.tenant_id, TERMS_INVALID, fault, at_ms)]
    settings = msgspec.structs.replace(tenant.settings, tiers=command.tiers)
    return [TenantChanged(command.tenant_id, command.request_id, command.fingerprint, at_ms, tenant.name, settings)]


def decide_set_boards(scope: Scope, command: SetBoards, at_ms: int) -> list[Fact]:
    """Sets which leaderboards the organisation has of its own, if the condition holds and unless it makes no sense."""
    tenant = scope.tenant
    if command.if_version is not None and boards_version(tenant.settings) not in command.if_version:
        return [_refused(command, tenant.tenant_id, PRECONDITION_FAILED, CHANGED_MEANWHILE, at_ms)]
    fault = fault_of_boards(command.boards, command.grace_ms)
    if fault:
        return [_refused(command, tenant.tenant_id, TERMS_INVALID, fault, at_ms)]
    settings = msgspec.structs.replace(tenant.settings, boards=command.boards, board_grace_ms=command.grace_ms)
    return [TenantChanged(command.tenant_id, command.request_id, command.fingerprint, at_ms, tenant.name, settings)]


def checkin_rule(points: int, version: int = 1) -> Rule:
    """The rule that every organisation starts with: points for the first entry to an event."""
    return Rule(CHECKIN_RULE_ID, version, "Points per check-in", "checkin", points)


def _with_checkin_points(rules: tuple[Rule, ...], points: int) -> tuple[Rule, ...]:
    version = max((rule.version for rule in rules if rule.rule_id == CHECKIN_RULE_ID), default=0) + 1
    return (*(rule for rule in rules if rule.rule_id != CHECKIN_RULE_ID), checkin_rule(points, version))


def decide_issue_card(scope: Scope, command: IssueCard, at_ms: int) -> list[Fact]:
    """Issues a card, unless the organisation's plan is used up, or what is told of the member makes no sense."""
    tenant, profile = scope.tenant, command.profile
    cards_after = tenant.cards + 1
    if tenant.settings.plan == "free" and cards_after > CARDS_PER_FREE_TENANT_MAX:
        detail = (
            f"the Free plan has room for {CARDS_PER_FREE_TENANT_MAX} cards that are not revoked; "
            "upgrade to Premium for more, then ask with a new request id"
        )
        return [_refused(command, command.card_id, QUOTA_EXCEEDED, detail, at_ms)]
    fault = fault_of_profile(profile)
    if fault:
        return [_refused(command, command.card_id, TERMS_INVALID, fault, at_ms)]
    issued = CardIssued(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        at_ms,
        command.card_id,
        command.member_id,
        command.member_name,
        command.tier,
        command.valid_from_ms,
        command.valid_until_ms,
        cards_after,
        tenant.issued + 1,
        profile,
        *next_birthday(profile.birthday, tenant.settings.time_zone, at_ms, 0),
    )
    standing = Standing(command.tier, review_ms(tenant, command.tier, at_ms), False)
    facts: list[Fact] = [issued]
    caused = (command.tenant_id, "", b"", at_ms)
    if issued.birthday_due_ms:
        facts.append(AlarmSet(*caused, "card", command.card_id, issued.birthday_due_ms))
    if standing.due_ms:
        # When the tier of a new card is looked at first.
        head = (*caused, command.card_id)
        facts.append(TierReviewed(*head, command.tier, 0, standing.due_ms, at_ms))
    told = (tenant, Card.issued(issued, 0), at_ms, f"issue:{command.request_id}")
    run = RuleRun(*told, standing=standing, grants=Grants(scope, at_ms))
    if tenant.rulebook.rules and tenant.rulebook.compiled.listens_to("card_issued"):
        run.happens("card_issued")
    return [*facts, *run.finished()]


def decide_change_card_state(scope: Scope, command: ChangeCardState, at_ms: int) -> list[Fact]:
    """Suspends, resumes or revokes; a revoked card stays revoked."""
    tenant, card = scope.tenant, scope.card
    if card.state == "revoked" and command.state != "revoked":
        return [_refused(command, card.card_id, CARD_REVOKED, "a revoked card stays revoked; issue a new one", at_ms)]
    # A card from before there were plans does not count, and so makes no room below zero.
    is_freed = command.state == "revoked" and card.state != "revoked"
    cards_after = max(0, tenant.cards - 1) if is_freed else tenant.cards
    return [
        CardStateChanged(
            command.tenant_id,
            command.request_id,
            command.fingerprint,
            at_ms,
            command.card_id,
            command.state,
            command.note,
            cards_after,
            card.serial,
        )
    ]


def decide_rename_card_holder(scope: Scope, command: RenameCardHolder, at_ms: int) -> list[Fact]:
    """Renames, whatever the card's state: a person may be forgotten after their cards are revoked."""
    return [
        CardHolderRenamed(
            command.tenant_id, command.request_id, command.fingerprint, at_ms, command.card_id, command.member_name
        )
    ]


def decide_create_event(scope: Scope, command: CreateEvent, at_ms: int) -> list[Fact]:
    """Creates an event, unless its capacity or number of gates is out of bounds. Without a time zone of its own it goes
    by the tenant's of that moment."""
    terms = command.terms
    refusal = _terms_refusal(command, command.event_id, terms, None, at_ms)
    if refusal:
        return [refusal]
    if not terms.time_zone:
        terms = msgspec.structs.replace(terms, time_zone=scope.tenant.settings.time_zone)
    alarm = event_alarm(command.event_id, None, terms, command.tenant_id, at_ms)
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    return [EventCreated(*head, command.event_id, terms), *alarm]


def decide_change_event(scope: Scope, command: ChangeEvent, at_ms: int) -> list[Fact]:
    """Changes what is given, if the condition holds. Capacity cannot go below the number of people inside."""
    event, terms = scope.event, scope.event.terms
    if command.if_version is not None and _version(terms, command.gate) not in command.if_version:
        return [_refused(command, event.event_id, PRECONDITION_FAILED, CHANGED_MEANWHILE, at_ms)]
    changes = {
        name: value
        for name in (
            "name",
            "capacity",
            "time_zone",
            "doors_open_ms",
            "doors_close_ms",
            "reentry",
            "strict_exit",
            "state",
            "zones",
            "sessions",
            "admission",
            "exit_all_minute",
            "questions",
            "tags",
        )
        if (value := getattr(command, name)) is not None
    }
    if command.gate is not None:
        changes["gates"] = _with_gate(terms.gates, command.gate)
    terms = msgspec.structs.replace(terms, **changes)
    refusal = _terms_refusal(command, event.event_id, terms, event, at_ms)
    if refusal:
        return [refusal]
    alarm = event_alarm(event.event_id, event.terms, terms, command.tenant_id, at_ms)
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    return [EventChanged(*head, event.event_id, terms), *alarm]


def _version(terms: EventTerms, changed: Gate | None) -> str:
    """The version of what a change is about: the event, or the gate with this id ("" for one that is new)."""
    if changed is None:
        return event_version(terms)
    return next((gate_version(gate) for gate in terms.gates if gate.gate_id == changed.gate_id), "")


def _with_gate(gates: tuple[Gate, ...], gate: Gate) -> tuple[Gate, ...]:
    if any(present.gate_id == gate.gate_id for present in gates):
        return tuple(gate if present.gate_id == gate.gate_id else present for present in gates)
    return (*gates, gate)


def _terms_refusal(
    command: CreateEvent | ChangeEvent, event_id: str, terms: EventTerms, event: Event | None, at_ms: int
) -> CommandRefused | None:
    inside = event.inside if event is not None else 0
    if not max(1, inside) <= terms.capacity <= CAPACITY_MAX:
        detail = f"capacity must be 1 to {CAPACITY_MAX} and at least the {inside} people inside"
        return _refused(command, event_id, CAPACITY_INVALID, detail, at_ms)
    if len(terms.gates) > GATES_PER_EVENT_MAX:
        return _refused(command, event_id, LIMIT_REACHED, f"an event has at most {GATES_PER_EVENT_MAX} gates", at_ms)
    for zone in terms.zones:
        people = event.zones.get(zone.zone_id, 0) if event is not None else 0
        if zone.capacity and not people <= zone.capacity <= CAPACITY_MAX:
            detail = f"zone {zone.zone_id}: capacity must be at most {CAPACITY_MAX} and at least the {people} in it"
            return _refused(command, event_id, CAPACITY_INVALID, detail, at_ms)
    fault = fault_of_terms(terms, event.zones if event is not None else {})
    return _refused(command, event_id, TERMS_INVALID, fault, at_ms) if fault else None


def _refused(
    command: CreateEvent | ChangeEvent | ChangeTenant | ChangeCardState | IssueCard | SetTiers | SetBoards,
    entity_id: str,
    reason: str,
    detail: str,
    at_ms: int,
) -> CommandRefused:
    return CommandRefused(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        at_ms,
        type(command).__name__,
        entity_id,
        reason,
        detail,
    )
