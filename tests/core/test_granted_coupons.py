"""Coupons that rules grant: when, of what, to whom; and what becomes of them when their cause is annulled."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.commands import AwardPoints, IssueCard, RedeemPoints, ReversePoints
from actors.coupon_commands import ChangeCoupon
from actors.coupon_facts import CodeGranted, CodeWithdrawn, granted_code_id
from actors.coupon_terms import ItemValue
from actors.facts import Fact
from actors.rule_commands import SaveRule
from actors.rule_facts import RuleFailure, RulesApplied
from actors.rulebook import Rulebook
from rules.language import AwardPoints as Award
from rules.language import GrantCoupon, Limits, Notify, RuleDefinition
from storage.audit_checks import Findings
from storage.audit_coupons import CouponCheck
from storage.audit_grants import GrantCheck
from tests.core.till import Till

GIFT = GrantCoupon("gift")
DAY_MS = 86_400_000


def rule(number: int, on: Any, *then: Any, **more: Any) -> RuleDefinition:
    told = {"rule_id": f"rule_{number}", "version": 0, "name": "R", "on": on, "when": "true", "state": "active"}
    return RuleDefinition(**{**told, **more}, then=then)


def till(*rules: RuleDefinition, **terms: Any) -> Till:
    """With a coupon "gift" and rules that were saved after it."""
    made = Till()
    assert made.define("gift", **{"value": ItemValue("A cake"), **terms}) == ""
    for one in rules:
        assert made.told(SaveRule(*made.request(), one, True)) == ""
    return made


def top_up(made: Till, card_id: str = "card") -> list[str]:
    """Ids of what that granted."""
    facts = made.ask(AwardPoints(*made.request(), card_id, 9, account="wallet"))
    return [fact.code_id for fact in facts if isinstance(fact, CodeGranted)]


def failures(made: Till) -> list[RuleFailure]:
    return [one for fact in made.facts if isinstance(fact, RulesApplied) for one in fact.failures]


def withdrawn(facts: list[Fact]) -> list[str]:
    return [fact.code_id for fact in facts if isinstance(fact, CodeWithdrawn)]


def reverse(made: Till, entry_seq: int, card_id: str = "card") -> list[str]:
    return withdrawn(made.ask(ReversePoints(*made.request(), card_id, entry_seq)))


def audited(made: Till) -> list[str]:
    findings = Findings(0)
    coupons, grants = CouponCheck(findings), GrantCheck(findings)
    for number, fact in enumerate(made.facts):
        if number and fact.request_id:
            grants.end_entry("here")
        coupons.take(fact, "here")
        grants.take(fact, "here")
    grants.end_entry("here")
    return [finding.detail for finding in findings.kept]


def test_what_is_granted_is_a_code_of_one_card_without_a_text() -> None:
    made = till(rule(1, "top_up", GIFT), valid_days=2)
    (code_id,) = top_up(made)
    code = made.code(code_id)
    assert code_id == granted_code_id("org", "card", "entry:1", ("rule_1", 1), 0)
    assert (code.coupon_id, code.card_id, code.tail, code.issue_id) == ("gift", "card", "", "entry:1")
    assert (code.expires_at_ms, made.coupon("gift").counts.issued) == (made.now_ms + 2 * DAY_MS, 1)
    assert made.redeem(code_id, "card2") == "coupon_not_for_card"
    assert made.redeem(code_id) == ""
    assert made.redeem(code_id, redemption_id="again") == "coupon_already_used"
    assert audited(made) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "paused"}, "coupon_not_active"),
        ({"state": "ended"}, "coupon_ended"),
        ({"starts_ms": 1 << 50}, "coupon_not_started"),
        ({"ends_ms": 1}, "coupon_expired"),
        ({"tiers": ("diamond",)}, "coupon_not_for_card"),
    ],
)
def test_what_cannot_be_granted_is_the_rules_failure(change: dict[str, Any], reason: str) -> None:
    made = till(rule(1, "top_up", GIFT, Award(5)), rule(2, "top_up", Award(3)))
    assert made.told(ChangeCoupon(*made.request(), "gift", **change)) == ""
    assert top_up(made) == []
    assert failures(made) == [RuleFailure("rule_1", 1, "then", reason)]
    assert made.residents.cards["card"].balance == 3, "a rule applies as a whole or not at all, the others stand"


def test_no_more_are_granted_than_may_be_redeemed() -> None:
    made = till(rule(1, "top_up", GIFT), uses_max=2)
    made.issue("code", coupon_id="gift")
    assert [len(top_up(made, card_id)) for card_id in ("card", "card2", "card3")] == [1, 0, 0]
    assert [one.reason for one in failures(made)] == ["coupon_limit_reached"]
    assert audited(made) == []


def test_a_rule_that_grants_two_needs_room_for_both() -> None:
    made = till(rule(1, "top_up", GIFT, GIFT), uses_max=3)
    first = top_up(made)
    assert len(set(first)) == 2
    assert top_up(made) == []
    assert made.coupon("gift").counts.issued == 2


def test_limits_of_the_rule_hold_and_come_back() -> None:
    made = till(rule(1, "top_up", GIFT, limits=Limits(per_card=1)))
    (code_id,) = top_up(made)
    assert top_up(made) == []
    assert reverse(made, 1) == [code_id]
    assert len(top_up(made)) == 1
    assert audited(made) == []


def test_what_is_withdrawn_is_refused_and_its_place_is_free() -> None:
    made = till(rule(1, "top_up", GIFT), uses_max=1)
    (code_id,) = top_up(made)
    assert reverse(made, 1) == [code_id]
    assert made.redeem(code_id) == "coupon_withdrawn"
    assert made.coupon("gift").counts.issued == 0
    assert len(top_up(made, "card2")) == 1


def test_what_is_used_stays_and_what_is_held_too() -> None:
    made = till(rule(1, "top_up", GIFT))
    (used,), (held,) = top_up(made), top_up(made)
    assert made.redeem(used) == made.redeem(held, hold_ms=1_000) == ""
    assert reverse(made, 1) == reverse(made, 2) == []
    assert made.capture(f"rdm-{held}") == ""
    assert made.coupon("gift").counts.issued == 2
    assert audited(made) == []


def test_a_hold_that_has_lapsed_is_no_use_though_its_alarm_has_not_rung() -> None:
    made = till(rule(1, "top_up", GIFT))
    (code_id,) = top_up(made)
    assert made.redeem(code_id, hold_ms=1_000) == ""
    made.now_ms += 1_000
    assert reverse(made, 1) == [code_id]
    assert made.capture(f"rdm-{code_id}") == "hold_lapsed"
    assert made.code(code_id).state == "withdrawn"
    assert audited(made) == []


def test_the_use_of_a_coupon_grants_of_it_and_its_rollback_withdraws() -> None:
    made = till(rule(1, "coupon_used", GIFT), uses_max=3, stacking="with_others")
    made.issue("a", coupon_id="gift")
    assert made.redeem("a") == ""
    (code_id,) = [fact.code_id for fact in made.facts if isinstance(fact, CodeGranted)]
    counts = made.coupon("gift").counts
    assert (counts.issued, counts.redeemed, counts.day_uses) == (2, 1, 1)
    assert made.roll_back("rdm-a") == ""
    counts = made.coupon("gift").counts
    assert (counts.issued, counts.redeemed, counts.day_uses) == (1, 0, 0)
    assert made.code(code_id).state == "withdrawn"
    assert audited(made) == []


def test_a_capture_grants_of_the_same_coupon() -> None:
    made = till(rule(1, "coupon_used", GIFT))
    made.issue("a", coupon_id="gift")
    assert made.redeem("a", hold_ms=1_000) == made.capture("rdm-a") == ""
    counts = made.coupon("gift").counts
    assert (counts.issued, counts.redeemed, counts.on_hold) == (2, 1, 0)
    assert audited(made) == []


def test_a_rule_that_is_gone_leaves_what_it_granted_to_be_withdrawn() -> None:
    made = till(rule(1, "top_up", GIFT))
    (code_id,) = top_up(made)
    made.tenant.rulebook = Rulebook()
    assert reverse(made, 1) == [code_id]


def test_points_and_new_cards_grant() -> None:
    made = till(*(rule(number, on, GIFT) for number, on in enumerate(("points_earned", "points_spent", "card_issued"))))
    made.ask(AwardPoints(*made.request(), "card", 50))
    made.ask(RedeemPoints(*made.request(), "card", 10))
    made.ask(IssueCard(*made.request(), "new", "member", "Ann", "gold"))
    granted = [fact for fact in made.facts if isinstance(fact, CodeGranted)]
    assert [(fact.card_id, fact.cause.partition(":")[0]) for fact in granted] == [
        *(("card", "entry"), ("card", "entry"), ("new", "issue")),
    ]
    assert audited(made) == []


@pytest.mark.parametrize(
    ("coupon_id", "why"),
    [("none", "there is no such coupon"), ("old", "the coupon has ended"), ("all", "shared code")],
)
def test_which_coupons_a_rule_cannot_grant(coupon_id: str, why: str) -> None:
    made = till()
    made.define("old", state="ended")
    made.define("all", shared="ALL")
    told = rule(1, "top_up", Notify("", "Hello"), GrantCoupon(coupon_id))
    (refusal,) = made.ask(SaveRule(*made.request(), told, True))
    assert getattr(refusal, "reason", "") == "rule_invalid"
    detail = getattr(refusal, "detail", "")
    assert detail.startswith("/then/1/coupon_id: ")
    assert why in detail


def test_a_rule_keeps_a_coupon_that_has_ended_meanwhile() -> None:
    made = till(rule(1, "top_up", GIFT))
    made.told(ChangeCoupon(*made.request(), "gift", state="ended"))
    paused = msgspec.structs.replace(rule(1, "top_up", GIFT), state="paused")
    assert made.told(SaveRule(*made.request(), paused)) == ""
    assert made.told(SaveRule(*made.request(), rule(2, "top_up", GIFT), True)) == "rule_invalid"
