"""From facts about rules to rows. Rules as in `storage.rows`."""

from __future__ import annotations

import msgspec

from actors.rule_facts import EffectRequested, RuleDeleted, RuleFact, RulesApplied, RuleSaved, RuleUnitsReturned
from actors.schedule_facts import SchedulesMoved
from storage.row_batch import RowBatch
from storage.rows_cards import card_change
from storage.state_tables import RULE_FAILURES, RULE_POINTS, RULE_SCHEDULES, RULE_USES, RULE_VERSIONS, RULES


def take_schedules(batch: RowBatch, fact: SchedulesMoved, position: int) -> None:
    """When scheduled rules come, and how far a round is."""
    batch.set_state(RULE_SCHEDULES, (fact.tenant_id, msgspec.json.encode(fact.schedules).decode(), position))


def take_rule_fact(batch: RowBatch, fact: RuleFact, position: int) -> None:
    """What the rules are, and what they used."""
    tenant_id = fact.tenant_id
    if isinstance(fact, RuleSaved):
        definition = fact.definition
        text = msgspec.json.encode(definition).decode()
        batch.set_state(RULES, (tenant_id, definition.rule_id, text, fact.at_ms, position))
        version = (tenant_id, definition.rule_id, definition.version, text, fact.at_ms, position)
        batch.set_state(RULE_VERSIONS, version)
    elif isinstance(fact, RuleDeleted):
        batch.set_state(RULES, (tenant_id, fact.rule_id, "", fact.at_ms, position))
    elif not isinstance(fact, EffectRequested):
        take_rules_applied(batch, fact, position)


def take_rules_applied(batch: RowBatch, fact: RulesApplied | RuleUnitsReturned, position: int) -> None:
    """What rules used, or got back."""
    tenant_id = fact.tenant_id
    if isinstance(fact, RulesApplied) and fact.failed_on:
        for failed in fact.failures:
            why = (fact.failed_on, fact.at_ms, failed.where, failed.reason, position)
            batch.set_state(RULE_FAILURES, (tenant_id, failed.rule_id, failed.version, *why))
    for step in fact.steps:
        batch.set_state(RULE_POINTS, (tenant_id, step.units.rule_id, step.points_after, position))
        use = step.use
        if use is not None:
            counts = (use.times, use.day, use.day_times, position)
            batch.set_state(RULE_USES, (tenant_id, fact.card_id, use.rule_id, *counts))
    issued = batch.cards_issued.get((tenant_id, fact.card_id))
    if issued is not None:
        issued[0].apply(fact, position)
    else:
        card_change(batch, tenant_id, fact.card_id).position = position
