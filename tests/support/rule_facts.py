"""Any facts about rules that a journal could hold (`tests.support.histories`)."""

from __future__ import annotations

from random import Random

from actors.card import Card
from actors.rule_facts import (
    EffectRequested,
    RuleDeleted,
    RuleFact,
    RuleFailure,
    RulesApplied,
    RuleSaved,
    RuleStep,
    RuleUnits,
    RuleUnitsReturned,
    RuleUse,
)
from actors.tenant import Tenant
from rules.language import AwardPoints, Limits, Notify, RuleDefinition

RULES = ("rule_1", "rule_2", "rule_3")


def rule_fact(random: Random, tenant: Tenant, card: Card, head: tuple[str, str, bytes, int]) -> RuleFact:
    """One about this organisation and this card; `head` is that of a fact that answers a request. A rule that was
    deleted does not come back."""
    caused = (head[0], "", b"", head[3], card.card_id, "entry:1")
    known = [rule for rule in tenant.rulebook.rules if rule.rule_id in RULES]
    kind = random.randrange(8)
    if kind < 2 or not known:
        rule_id = random.choice(RULES) if tenant.rules_position == 0 or not known else random.choice(known).rule_id
        if not known and tenant.rules_position:
            return EffectRequested(*caused, "rule_9", 1, "notify", "", "gone")
        then = (AwardPoints(5), Notify("", "Grüße 'x'"))
        definition = RuleDefinition(
            rule_id=rule_id,
            version=random.randrange(9),
            name='Ein "Name"',
            on="checkin",
            when="true",
            then=then,
            limits=Limits(3),
            state=random.choice(("draft", "active")),
        )
        return RuleSaved(*head, definition)
    rule = random.choice(known)
    if kind == 2 and random.random() < 0.2:
        return RuleDeleted(*head, rule.rule_id, rule.version)
    if kind == 3:
        return EffectRequested(*caused, rule.rule_id, rule.version, "call_webhook", "till")
    use = RuleUse(rule.rule_id, random.randrange(5), 20_261_121, random.randrange(3))
    units = RuleUnits(rule.rule_id, rule.version, 5, random.choice((0, 20_261_121)))
    step = RuleStep(units, random.randrange(100), use if units.day else None)
    if kind < 6:
        failed = RuleFailure(rule.rule_id, rule.version, "then/0", random.choice(("overflow", "key_missing")))
        steps, failures = random.choice(((), (step,))), random.choice(((), (failed,)))
        return RulesApplied(*caused, "checkin", 0, steps, failures, random.choice((0, 20_261_121)) if failures else 0)
    return RuleUnitsReturned(*caused, (step,))
