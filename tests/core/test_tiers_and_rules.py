"""Where rules and tiers by points meet: a tier that a rule sets, the rise after it, and what a person has set."""

from __future__ import annotations

from typing import Any

import pytest

from actors.card_facts import CardTierChanged
from actors.checkin import decide_check_in
from actors.commands import IssueCard
from actors.facts import AlarmSet, Fact, PointsPosted
from actors.handlers import HANDLERS
from actors.ports import LedgerEntry
from actors.rule_facts import RulesApplied, RuleSaved
from actors.rulebook import Rulebook
from actors.tenant import Tenant
from rules.language import AwardPoints, RuleDefinition, SetTier, Trigger
from storage.audit_checks import Findings
from storage.audit_rules import RulesCheck
from tests.core.build import NOW_MS, check_in, reverse, scope, signed
from tests.core.build import card as new_card
from tests.core.build import event as new_event
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


# --- a rise moves rules -----------------------------------------------------------------------------------------------


def test_a_rise_moves_rules_and_what_they_give_comes_after_it() -> None:
    ledger = Ledger(with_rules(("tier_changed", AwardPoints(30))))
    facts = ledger.earn(100)
    assert kinds(facts) == ["PointsPosted", "CardTierChanged", "PointsPosted", "RulesApplied", "AlarmSet"]
    assert changes(facts) == [("points", "bronze", "silver", 100, NEW_YEAR)]
    root, gift = facts[0], facts[2]
    assert isinstance(root, PointsPosted)
    assert isinstance(gift, PointsPosted)
    assert [(units.rule_id, units.points) for units in root.rules] == [("rule_0", 30)], "kept for the reversal"
    assert (gift.cause, gift.rule, gift.balance_after) == ("entry:1", "rule_0:1", 130)


def test_what_a_rise_gives_may_lead_to_the_next_but_not_without_end() -> None:
    ledger = Ledger(with_rules(("tier_changed", AwardPoints(2_000))))
    facts = ledger.earn(100)
    assert changes(facts) == [
        ("points", "bronze", "silver", 100, NEW_YEAR),
        ("points", "silver", "diamond", 2_100, NEW_YEAR),
    ]
    assert [fact.depth for fact in facts if isinstance(fact, RulesApplied)] == [1, 2]
    assert ledger.card.balance == 4_100


def test_a_rule_that_takes_the_rise_back_does_not_go_on_for_ever() -> None:
    ledger = Ledger(with_rules(("tier_changed", SetTier("bronze"))))
    facts = ledger.earn(100)
    assert ledger.card.tier == "silver"
    assert 2 <= len(changes(facts)) <= 6


def test_the_reversal_takes_back_what_the_rise_gave() -> None:
    ledger = Ledger(with_rules(("tier_changed", AwardPoints(30))))
    ledger.earn(100)
    command = reverse(1)
    made = scope(ledger.tenant, ledger.card, entries=[LedgerEntry(one) for one in ledger.posted])
    ledger.take(HANDLERS[type(command)].decide(made, command, NOON))
    assert (ledger.card.balance, ledger.card.tier) == (0, "silver"), "the tier goes at the review"


def test_a_review_moves_no_rules() -> None:
    ledger = Ledger(with_rules(("tier_changed", AwardPoints(30))), tier="gold", tier_due_ms=NEW_YEAR)
    assert kinds(ledger.wake(NEW_YEAR)) == ["AlarmSet", "CardTierChanged"]


# --- the auditor ------------------------------------------------------------------------------------------------------


def audited(tenant: Tenant, facts: list[Fact]) -> list[str]:
    findings = Findings(0)
    check = RulesCheck(findings)
    for definition in tenant.rulebook.rules:
        check.take(RuleSaved(tenant.tenant_id, "", b"", NOON, definition), "saved")
    for fact in facts:
        check.take(fact, "here")
    check.end_entry("here")
    return [finding.detail for finding in findings.kept]


def test_the_auditor_agrees_with_two_moments_of_one_cause() -> None:
    """An admission moves rules by itself and as a streak, and what either gave moves rules again."""
    tenant = with_rules(
        ("checkin", AwardPoints(3)), ("streak_reached", AwardPoints(2)), ("points_earned", AwardPoints(1))
    )
    facts = decide_check_in(tenant, new_card(), new_event(), check_in(), NOW_MS)
    depths = [(fact.trigger, fact.depth) for fact in facts if isinstance(fact, RulesApplied)]
    assert depths.count(("points_earned", 1)) == 2
    assert audited(tenant, facts) == []
    twice = [fact for fact in facts if not isinstance(fact, RulesApplied) or (fact.trigger, fact.depth) != depths[-1]]
    applied = [fact for fact in facts if isinstance(fact, RulesApplied)][-1]
    assert any("twice to one moment" in line for line in audited(tenant, [*twice, applied, applied]))


def test_the_auditor_agrees_with_rises_that_lead_to_rises() -> None:
    ledger = Ledger(with_rules(("tier_changed", AwardPoints(2_000))))
    assert audited(ledger.tenant, ledger.earn(100)) == []
