"""Rules and coupons: a use moves rules, points of coupons are earned, and a rollback takes back what both led to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.card_facts import CardTierChanged
from actors.commands import ReversePoints
from actors.coupon_facts import CouponRedeemed, RedemptionChanged
from actors.coupon_terms import AmountValue, CouponValue, ItemValue, PercentValue, PointsValue
from actors.facts import CommandRefused, Fact, PointsPosted
from actors.ledger import BALANCE_MAX
from actors.rule_facts import EffectRequested, RulesApplied, RuleSaved, RuleUnitsReturned
from actors.rulebook import Rulebook
from rules.language import AwardPoints, Limits, Multiply, Notify, RuleDefinition, SetTier
from storage.audit_checks import Findings
from storage.audit_rules import RulesCheck
from tests.core.test_tiers import with_tiers
from tests.core.till import Till

TEA = ItemValue("A tea")


def rule(number: int, on: Any, *then: Any, when: str = "true", **more: Any) -> RuleDefinition:
    told = {"rule_id": f"rule_{number}", "version": 1, "name": "R", "on": on, "when": when, "state": "active"}
    return RuleDefinition(**{**told, **more}, then=then)


def till(value: CouponValue, *rules: RuleDefinition) -> Till:
    made = Till()
    made.tenant.rulebook = Rulebook(rules)
    made.define(value=value)
    made.issue("a", "b", "c")
    return made


def posted(made: Till) -> list[tuple[str, int, str, str]]:
    return [(fact.kind, fact.amount, fact.cause, fact.rule) for fact in made.facts if isinstance(fact, PointsPosted)]


def applied(made: Till) -> list[tuple[str, int]]:
    return [(fact.trigger, fact.depth) for fact in made.facts if isinstance(fact, RulesApplied)]


def audited(made: Till) -> list[str]:
    findings = Findings(0)
    check = RulesCheck(findings)
    for definition in made.tenant.rulebook.rules:
        check.take(RuleSaved("org", "", b"", made.now_ms, definition), "saved")
    for number, fact in enumerate(made.facts):
        if number and fact.request_id:
            check.end_entry("here")
        check.take(fact, "here")
    check.end_entry("here")
    return [finding.detail for finding in findings.kept]


@pytest.mark.parametrize(
    ("value", "when"),
    [
        (TEA, "coupon.kind == 'item' && coupon.amount == 0 && coupon.bill == 'till-1'"),
        (PointsValue(5), "coupon.kind == 'points' && coupon.amount == 5 && card.points == 0 && card.id == 'card'"),
        (PercentValue(20, 9), "coupon.kind == 'percent' && coupon.amount == 20"),
        (AmountValue(5_000), "coupon.kind == 'amount' && coupon.amount == 5000 && counts.visits_ever == 0"),
        (TEA, "coupon.id == 'cpn'"),
    ],
)
def test_a_condition_sees_the_coupon(value: CouponValue, when: str) -> None:
    made = till(value, rule(1, "coupon_used", Notify("", "Enjoy!"), when=when), rule(2, "coupon_used", SetTier("gold")))
    assert made.redeem("a", bill="till-1") == ""
    (told,) = [fact for fact in made.facts if isinstance(fact, EffectRequested)]
    assert (told.cause, told.rule_id, told.version) == ("coupon:rdm-a", "rule_1", 1)
    assert made.residents.cards["card"].tier == "gold"
    assert audited(made) == []


def test_a_hold_moves_no_rule_until_it_is_captured() -> None:
    made = till(TEA, rule(1, "coupon_used", AwardPoints(3)))
    assert made.redeem("a", hold_ms=1_000) == ""
    assert posted(made) == []
    assert made.capture("rdm-a") == ""
    assert posted(made) == [("award", 3, "coupon:rdm-a", "rule_1:1")]
    assert made.redeem("b", hold_ms=1_000) == ""
    assert made.release("rdm-b") == ""
    assert len(posted(made)) == 1
    assert audited(made) == []


def test_what_is_captured_for_a_suspended_card_moves_no_rule() -> None:
    made = till(PointsValue(5), rule(1, "coupon_used", AwardPoints(3)), rule(2, "points_earned", AwardPoints(1)))
    assert made.redeem("a", hold_ms=1_000) == ""
    made.residents.cards["card"].state = "suspended"
    assert made.capture("rdm-a") == ""
    assert posted(made) == [("award", 5, "coupon:rdm-a", "")]


def test_points_of_a_coupon_are_earned_once_with_what_rules_gave_for_it() -> None:
    made = till(
        PointsValue(5),
        rule(1, "coupon_used", Multiply(3_000)),
        rule(2, "points_earned", AwardPoints(100), when="points.amount == 15"),
        rule(3, "points_earned", AwardPoints(1), when="points.amount == 100"),
        rule(4, "points_earned", AwardPoints(1), when="points.amount == 1"),
    )
    assert made.redeem("a") == ""
    assert [(amount, name) for _, amount, _, name in posted(made)] == [
        *((5, ""), (10, "rule_1:1"), (100, "rule_2:1"), (1, "rule_3:1")),
    ], "and what is three deep fires nothing"
    assert applied(made) == [("coupon_used", 0), ("points_earned", 1), ("points_earned", 2)]
    assert audited(made) == []


def test_points_move_rules_where_none_is_on_coupons() -> None:
    made = till(PointsValue(5), rule(1, "points_earned", AwardPoints(2), when="points.amount == 5"))
    assert made.redeem("a") == ""
    assert [amount for _, amount, _, _ in posted(made)] == [5, 2]
    assert applied(made) == [("points_earned", 1)]


def test_a_rise_by_a_coupons_points_moves_rules() -> None:
    made = till(PointsValue(100), rule(1, "tier_changed", AwardPoints(7)))
    made.tenant.settings = with_tiers().settings
    made.residents.cards["card"].tier = "bronze"
    assert made.redeem("a") == ""
    (risen,) = [fact for fact in made.facts if isinstance(fact, CardTierChanged)]
    assert (risen.reason, risen.tier, risen.cause) == ("points", "silver", "coupon:rdm-a")
    assert [amount for _, amount, _, _ in posted(made)] == [100, 7]
    assert made.roll_back("rdm-a") == ""
    assert [amount for _, amount, _, _ in posted(made)] == [100, 7, -100, -7]
    assert audited(made) == []


# --- what a rollback takes back ---------------------------------------------------------------------------------------


def test_a_rollback_takes_back_points_and_units() -> None:
    limited = {"limits": Limits(per_card=1, points_budget=10)}
    made = till(PointsValue(5), rule(1, "coupon_used", AwardPoints(3, "", 30), **limited))
    assert made.redeem("a") == made.redeem("b") == ""
    assert made.residents.cards["card"].balance == 13, "the rule had its one time"
    assert made.told(ReversePoints(*made.request(), "card", 2)) == "entry_not_reversible"
    assert made.roll_back("rdm-b") == ""
    assert (made.residents.cards["card"].balance, made.tenant.rule_points["rule_1"]) == (8, 3)
    assert made.roll_back("rdm-a") == ""
    card = made.residents.cards["card"]
    assert (card.balance, card.earned, made.tenant.rule_points["rule_1"]) == (0, 0, 0)
    (returned,) = [fact for fact in made.facts if isinstance(fact, RuleUnitsReturned)]
    assert (returned.cause, returned.steps[0].use.times) == ("coupon:rdm-a", 0)  # type: ignore[union-attr]
    assert made.redeem("a", redemption_id="rdm-again") == ""
    assert made.residents.cards["card"].balance == 8, "and has it again"
    assert audited(made) == []


def test_a_rollback_after_a_capture_and_without_points() -> None:
    made = till(TEA, rule(1, "coupon_used", Notify("", "Hi"), limits=Limits(per_card=1)))
    assert made.redeem("a", hold_ms=1_000) == made.capture("rdm-a") == ""
    assert made.roll_back("rdm-a") == ""
    assert [type(fact).__name__ for fact in made.facts[-2:]] == ["RedemptionChanged", "RuleUnitsReturned"]
    assert made.redeem("b") == ""
    assert len([fact for fact in made.facts if isinstance(fact, EffectRequested)]) == 2


def test_a_rule_that_was_deleted_meanwhile_gets_nothing_back() -> None:
    made = till(TEA, rule(1, "coupon_used", AwardPoints(3)))
    assert made.redeem("a") == ""
    made.tenant.rulebook = Rulebook()
    assert made.roll_back("rdm-a") == ""
    assert made.residents.cards["card"].balance == 0
    assert not any(isinstance(fact, RuleUnitsReturned) for fact in made.facts)


def test_a_rule_without_room_is_noted_and_the_redemption_stands() -> None:
    made = till(TEA, rule(1, "coupon_used", AwardPoints(3)))
    made.residents.cards["card"].balance = BALANCE_MAX
    assert made.redeem("a") == ""
    (told,) = [fact for fact in made.facts if isinstance(fact, RulesApplied)]
    assert [(one.rule_id, one.reason) for one in told.failures] == [("rule_1", "balance_limit_reached")]


# --- the auditor ------------------------------------------------------------------------------------------------------


def without_units(fact: Fact) -> Fact | None:
    return msgspec.structs.replace(fact, rules=()) if isinstance(fact, CouponRedeemed) else fact


def not_given_back(fact: Fact) -> Fact | None:
    return None if isinstance(fact, RuleUnitsReturned) else fact


@pytest.mark.parametrize(("change", "found"), [(without_units, "keeps units of"), (not_given_back, "still has used")])
def test_the_auditor_finds_what_a_redemption_forgets(change: Any, found: str) -> None:
    made = till(TEA, rule(1, "coupon_used", AwardPoints(3)))
    assert made.redeem("a") == made.roll_back("rdm-a") == ""
    assert any(isinstance(fact, RedemptionChanged) and fact.rules for fact in made.facts)
    assert audited(made) == []
    made.facts = [changed for fact in made.facts if (changed := change(fact)) is not None]
    assert any(found in line for line in audited(made))


def test_nobody_is_refused_for_a_rule() -> None:
    made = till(TEA, rule(1, "coupon_used", AwardPoints(0, "card.points - 5")))
    assert made.redeem("a") == ""
    assert not any(isinstance(fact, CommandRefused) for fact in made.facts)
