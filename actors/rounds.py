"""Deciding when scheduled rules come, and moving them for an organisation's cards, a few at a time. Pure.

Rules:
1. A rule on `schedule` comes at its local times in the organisation's time zone (`actors.schedule`), within its
   validity and while it is active. Saving it with another schedule, or moving the organisation's clocks, counts from
   that moment.
2. When it comes it is moved for each card that was issued by then and is active when its turn is. What it gives is of
   the time at which it came, however long that takes. Rules that come at one time are moved together.
3. A step looks at `CARDS_PER_STEP_MAX` cards, and ends once it has led to `FACTS_PER_STEP_MAX` facts: nobody else in
   the partition waits for more than that. The next one follows at once (`actors.alarms`, rule 4).
4. Rounds come one after the other. Times that pass meanwhile, or while nobody looks, are made up for once.
5. Which cards there are Postgres tells. It knows all that were issued when a round began: an alarm is read from it once
   it holds what set the alarm.
"""

from __future__ import annotations

from actors.card import Card
from actors.coupon_grants import Grants
from actors.facts import AlarmSet, Fact
from actors.rule_run import RuleRun
from actors.rulebook import Rulebook
from actors.schedule import Schedule, next_scheduled
from actors.schedule_facts import Round, RuleDue, Schedules, SchedulesMoved
from actors.scope import Scope
from actors.tenant import Tenant
from rules.language import RuleDefinition

CARDS_PER_STEP_MAX = 100
FACTS_PER_STEP_MAX = 100


def rescheduled(tenant: Tenant, rulebook: Rulebook, time_zone: str, at_ms: int) -> list[Fact]:
    """What it means for its scheduled rules that an organisation has these rules, or this time zone, from now on."""
    before = {one.rule_id: one.due_ms for one in tenant.schedules.dues}
    dues: list[RuleDue] = []
    for rule in rulebook.rules:
        old = tenant.rulebook.get(rule.rule_id)
        is_as_before = old is not None and _times_of(old) == _times_of(rule) and _is_here(tenant, time_zone)
        due_ms = before.get(rule.rule_id, 0) if is_as_before else 0
        due_ms = due_ms or next_due_ms(rule, time_zone, at_ms)
        if due_ms:
            dues.append(RuleDue(rule.rule_id, due_ms))
    schedules = Schedules(tuple(dues), tenant.schedules.round)
    if schedules == tenant.schedules:
        return []
    facts: list[Fact] = [SchedulesMoved(tenant.tenant_id, "", b"", at_ms, schedules)]
    if _wake_ms(schedules) != _wake_ms(tenant.schedules):
        facts.append(_alarm(tenant, _wake_ms(schedules), at_ms, rang=False))
    return facts


def next_due_ms(rule: RuleDefinition, time_zone: str, after_ms: int) -> int:
    """When a rule comes next, strictly after a moment; 0: never."""
    told = rule.schedule
    if told is None or rule.on != "schedule" or rule.state != "active":
        return 0
    schedule = Schedule(told.minute // 60, told.minute % 60, told.weekdays, told.days_of_month)
    due_ms = next_scheduled(max(after_ms, rule.valid_from_ms - 1), schedule, time_zone)
    return 0 if rule.valid_until_ms and due_ms >= rule.valid_until_ms else due_ms


def decide_wake_tenant(scope: Scope, tenant: Tenant, at_ms: int) -> list[Fact]:
    """The alarm rang: a round begins, or goes on."""
    schedules = tenant.schedules
    if schedules.round is not None:
        return _step(scope, tenant, schedules.round, at_ms)
    due_ms = min((one.due_ms for one in schedules.dues), default=0)
    if not 0 < due_ms <= at_ms:
        return [_alarm(tenant, _wake_ms(schedules), at_ms, rang=True)]
    begun = tuple(one.rule_id for one in schedules.dues if one.due_ms == due_ms)
    dues: list[RuleDue] = []
    for one in schedules.dues:
        rule = tenant.rulebook.get(one.rule_id)
        assert rule is not None, "what is deleted does not come"
        next_ms = next_due_ms(rule, tenant.settings.time_zone, at_ms) if one.rule_id in begun else one.due_ms
        if next_ms:
            dues.append(RuleDue(one.rule_id, next_ms))
    after = Schedules(tuple(dues), Round(due_ms, begun))
    moved = SchedulesMoved(tenant.tenant_id, "", b"", at_ms, after)
    return [_alarm(tenant, _wake_ms(after), at_ms, rang=True), moved]


def _step(scope: Scope, tenant: Tenant, walk: Round, at_ms: int) -> list[Fact]:
    card_ids = scope.cards_after(walk.after, walk.due_ms, CARDS_PER_STEP_MAX)
    cards: list[Card] = scope.find_all(("card", card_id) for card_id in card_ids)
    facts: list[Fact] = []
    after, is_over, run = walk.after, len(card_ids) < CARDS_PER_STEP_MAX, None
    grants = Grants(scope, at_ms)
    for card in cards:
        if len(facts) >= FACTS_PER_STEP_MAX:
            is_over = False
            break
        after = card.card_id
        if card.state == "active":
            cause = f"schedule:{walk.due_ms}"
            run = RuleRun(tenant, card, at_ms, cause, happened_ms=walk.due_ms, before=run, grants=grants)
            run.happens("schedule", due=walk.rule_ids)
            facts += run.finished()
    goes_on = None if is_over else Round(walk.due_ms, walk.rule_ids, after)
    schedules = Schedules(tenant.schedules.dues, goes_on)
    moved = SchedulesMoved(tenant.tenant_id, "", b"", at_ms, schedules, walk.due_ms)
    return [_alarm(tenant, _wake_ms(schedules), at_ms, rang=True), moved, *facts]


def _times_of(rule: RuleDefinition) -> tuple[object, ...]:
    return rule.on, rule.state, rule.schedule, rule.valid_from_ms, rule.valid_until_ms


def _is_here(tenant: Tenant, time_zone: str) -> bool:
    return tenant.settings.time_zone == time_zone


def _wake_ms(schedules: Schedules) -> int:
    if schedules.round is not None:
        return schedules.round.due_ms
    return min((one.due_ms for one in schedules.dues), default=0)


def _alarm(tenant: Tenant, wake_ms: int, at_ms: int, *, rang: bool) -> AlarmSet:
    return AlarmSet(tenant.tenant_id, "", b"", at_ms, "tenant", tenant.tenant_id, wake_ms, rang)
