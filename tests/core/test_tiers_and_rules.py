"""Where rules and tiers by points meet: a tier that a rule sets, the rise after it, and what a person has set."""

from __future__ import annotations

from typing import Any

import pytest

from actors.card_facts import CardTierChanged
from actors.commands import IssueCard
from actors.facts import AlarmSet, Fact
from actors.handlers import HANDLERS
from actors.rulebook import Rulebook
from actors.tenant import Tenant
from rules.language import AwardPoints, RuleDefinition, SetTier, Trigger
from tests.core.build import scope, signed
from tests.core.test_tiers import HEAD, NEW_YEAR, NOON, Ledger, kinds, with_tiers

DAY_MS = 86_400_000


def with_rules(*rules: tuple[Trigger, Any]) -> Tenant:
    tenant = with_tiers()
    book = Rulebook()
    for number, (on, action) in enumerate(rules):
        told = {"rule_id": f"rule_{number}", "version": 1, "name": "R", "on": on, "when": "true", "state": "active"}
        book = book.with_rule(RuleDefinition(**told, then=(action,)))
    tenant.rulebook = book
    return tenant


def changes(facts: list[Fact]) -> list[tuple[str, str, str, int, int]]:
    return [
        (fact.reason, fact.tier_before, fact.tier, fact.points, fact.due_ms)
        for fact in facts
        if isinstance(fact, CardTierChanged)
    ]


def test_a_tier_that_a_rule_sets_has_the_points_and_the_next_review() -> None:
    ledger = Ledger(with_rules(("points_earned", SetTier("gold"))))
    facts = ledger.earn(50)
    assert kinds(facts) == ["PointsPosted", "RulesApplied", "CardTierChanged", "AlarmSet"]
    assert changes(facts) == [("rule", "bronze", "gold", 50, NEW_YEAR)]
    assert isinstance(facts[-1], AlarmSet)
    assert (facts[-1].wake_ms, ledger.card.tier_due_ms) == (NEW_YEAR, NEW_YEAR)


def test_points_raise_what_a_rule_has_set() -> None:
    ledger = Ledger(with_rules(("points_earned", SetTier("silver"))))
    facts = ledger.earn(600)
    assert kinds(facts) == ["PointsPosted", "RulesApplied", "CardTierChanged", "CardTierChanged", "AlarmSet"]
    assert changes(facts) == [
        ("rule", "bronze", "silver", 600, NEW_YEAR),
        ("points", "silver", "gold", 600, NEW_YEAR),
    ]


def test_points_that_rules_give_count_for_the_rise_and_for_what_rules_set() -> None:
    ledger = Ledger(with_rules(("points_earned", SetTier("gold")), ("points_earned", AwardPoints(450))))
    facts = ledger.earn(50)
    assert kinds(facts)[:2] == ["PointsPosted", "PointsPosted"]
    # Three times: what rules gave is a moment itself, two levels deep.
    assert changes(facts)[0] == ("rule", "bronze", "gold", 50 + 3 * 450, NEW_YEAR)


def test_a_rule_does_not_override_what_a_person_has_set_until_a_time() -> None:
    ledger = Ledger(with_rules(("points_earned", SetTier("diamond"))))
    ledger.set_tier("silver", NOON + DAY_MS)
    assert kinds(ledger.earn(50)) == ["PointsPosted", "RulesApplied"]
    assert (ledger.card.tier, ledger.card.tier_is_held) == ("silver", True)


def test_the_next_review_lowers_what_a_rule_has_set() -> None:
    ledger = Ledger(with_rules(("points_earned", SetTier("diamond"))))
    ledger.earn(50)
    facts = ledger.wake(NEW_YEAR)
    assert changes(facts) == [("review", "diamond", "bronze", 50, 0)]


def test_set_by_hand_then_rules_hear_it_then_the_alarm() -> None:
    ledger = Ledger(with_rules(("tier_changed", AwardPoints(5))))
    facts = ledger.set_tier("gold")
    assert kinds(facts) == ["CardTierChanged", "PointsPosted", "RulesApplied", "AlarmSet"]
    assert kinds(ledger.set_tier("gold")) == ["CardTierChanged"], "the same tier is no change"


@pytest.mark.parametrize("tier", ["bronze", "gold"])
def test_a_new_card_is_told_its_review_before_rules_and_its_alarm_after(tier: Any) -> None:
    tenant = with_rules(("card_issued", AwardPoints(150)))
    facts = HANDLERS[IssueCard].decide(scope(tenant), signed(IssueCard(*HEAD, "card", "mem", "Ann", tier)), NOON)
    rises = ["PointsPosted", "RulesApplied", "CardTierChanged", "AlarmSet"]
    stays = ["TierReviewed", "PointsPosted", "RulesApplied", "AlarmSet"]
    assert kinds(facts) == ["CardIssued", *(rises if tier == "bronze" else stays)]
