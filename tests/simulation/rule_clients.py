"""What clients ask about rules: a few definitions that meet each other, saved, changed and deleted."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from actors.facts import Fact
from actors.rule_commands import DeleteRule, SaveRule
from actors.rule_facts import RuleDeleted, RuleSaved
from rules.language import AwardPoints, CallWebhook, Limits, Multiply, Notify, RuleDefinition, SetTier

DEFINITIONS: tuple[dict[str, Any], ...] = (
    {"on": "checkin", "then": (AwardPoints(3),), "limits": Limits(per_card=2)},
    {"on": "checkin", "then": (AwardPoints(4), Notify("hello")), "limits": Limits(per_card_per_day=1), "priority": 3},
    {"on": "checkin", "then": (Multiply(2_500),), "priority": -5},
    {"on": "checkin", "then": (AwardPoints(10),), "limits": Limits(points_budget=30), "stacking": "stop"},
    {"on": "checkin", "when": "counts.visits_event == 1", "then": (AwardPoints(7),), "stacking": "best", "group": "g"},
    {"on": "checkin", "when": "card.tier == 'gold'", "then": (AwardPoints(9),), "stacking": "best", "group": "g"},
    {"on": "checkin", "then": (AwardPoints(0, "card.points - 20"),)},
    {"on": "checkin", "when": "member.attributes.vip == 1", "then": (AwardPoints(1),), "priority": 9},
    {"on": "checkin", "when": "counts.visits_week > 1", "then": (AwardPoints(2, "", 1),)},
    {"on": "exit", "then": (AwardPoints(1),), "limits": Limits(per_card=3)},
    {"on": "points_earned", "when": "points.amount >= 10", "then": (SetTier("gold"), AwardPoints(2))},
    {"on": "points_earned", "then": (AwardPoints(1),), "limits": Limits(per_card_per_day=3)},
    {"on": "points_spent", "then": (AwardPoints(1), CallWebhook("till"))},
    {"on": "top_up", "then": (AwardPoints(0, "top_up.amount / 10"),), "limits": Limits(points_budget=12)},
    {"on": "tier_changed", "when": "tier.to == 'gold'", "then": (AwardPoints(5), Notify("", "Gold!"))},
    {"on": "tier_changed", "then": (SetTier("silver"),), "limits": Limits(per_card=1), "priority": 2},
    {"on": "card_issued", "then": (AwardPoints(6),)},
    {"on": "streak_reached", "then": (AwardPoints(0, "streak.days * 2"),)},
    {"on": "coupon_used", "then": (AwardPoints(0, "coupon.amount + 1"), Multiply(2_000))},
    {"on": "coupon_used", "then": (AwardPoints(3, "", 1),), "limits": Limits(per_card=2, points_budget=12)},
    {
        "on": "coupon_used",
        "when": "coupon.kind == 'item' && coupon.bill != ''",
        "then": (Notify("", "Enjoy!"), SetTier("gold")),
        "limits": Limits(per_card_per_day=1),
    },
    {"on": "coupon_used", "when": "coupon.id == 'cpn_1' || coupon.id == 'cpn_3'", "then": (CallWebhook("till"),)},
)


def about_rules(rng: Random, head: tuple[str, str, bytes], known: dict[str, RuleDefinition]) -> SaveRule | DeleteRule:
    """A rule is made, changed or deleted; now and then one that is not there."""
    rules = sorted(known)
    dice = rng.random()
    if rules and dice < 0.2:
        return DeleteRule(*head, rng.choice([*rules, "rule_ghost"]))
    state = rng.choice(("active", "active", "active", "active", "paused"))
    definition = RuleDefinition(
        **{"rule_id": f"rule_{head[1]}", "version": 0, "name": "A rule", "when": "true", "state": state}
        | rng.choice(DEFINITIONS)
    )
    if rules and dice < 0.4:
        definition = msgspec.structs.replace(definition, rule_id=rng.choice([*rules, "rule_ghost"]))
        return SaveRule(*head, definition)
    if dice < 0.45:
        return SaveRule(*head, msgspec.structs.replace(definition, then=(SetTier("paper"),)), True)
    return SaveRule(*head, definition, True)


def learn_rule(fact: Fact, known: dict[str, dict[str, RuleDefinition]]) -> None:
    """What this client knows of rules."""
    if isinstance(fact, RuleSaved):
        known.setdefault(fact.tenant_id, {})[fact.definition.rule_id] = fact.definition
    elif isinstance(fact, RuleDeleted):
        known.setdefault(fact.tenant_id, {}).pop(fact.rule_id, None)
