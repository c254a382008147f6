"""What a coupon's use gives to its card, rules included, and what its rollback takes back. Pure.

Rules:
1. A coupon is used when its redemption comes into force. A hold moves no rule until it is captured, and what is
   captured for a card that is not active moves none.
2. The points of a coupon are what that moment was awarded before any rule, as an organisation's simple award is for a
   check-in: rules on `coupon_used` that multiply count them in, and they are points earned, once, with what those gave.
3. A redemption keeps what rules used for it and where their awards begin; its rollback takes all of them back and
   gives the rules their units; what they granted is withdrawn (`actors.coupon_grants`). They have the cause of the
   coupon's own award, so nothing else reverses them.
"""

from __future__ import annotations

from typing import Literal

from actors.card import Card
from actors.coupon import Redemption
from actors.coupon_draft import NO_GAINS, Gains
from actors.coupon_grants import Grants
from actors.coupon_terms import AmountValue, CouponCounts, CouponValue, PercentValue, PointsValue
from actors.facts import PointsPosted
from actors.ledger import COUPON_CAUSE, LedgerDraft
from actors.points import take_back, take_back_awards
from actors.rule_run import RuleRun, units_returned
from actors.scope import Scope
from actors.tenant import Tenant
from rules.moment import CouponView


def coupon_view(coupon_id: str, value: CouponValue, bill: str) -> CouponView:
    """A coupon as rules see it."""
    kind: Literal["points", "percent", "amount", "item"] = "item"
    amount = 0
    match value:
        case PointsValue(points):
            kind, amount = "points", points
        case PercentValue(percent):
            kind, amount = "percent", percent
        case AmountValue(vnd):
            kind, amount = "amount", vnd
    return CouponView(coupon_id, kind, amount, bill)


def gained(
    scope: Scope,
    card: Card,
    used: tuple[str, CouponValue, str],
    redemption_id: str,
    at_ms: int,
    counts: CouponCounts,
) -> Gains:
    """What the use of a coupon (its id, value and bill) gives; `counts` are the coupon's after it."""
    tenant = scope.tenant
    coupon_id, value, _ = used
    points = value.points if isinstance(value, PointsValue) else 0
    hears = card.state == "active" and _hears(tenant, points)
    if not points and not hears:
        return NO_GAINS
    cause = COUPON_CAUSE + redemption_id
    ledger = LedgerDraft(tenant, card, at_ms)
    ledger.settle()
    own_seq = ledger.next_seq if points else 0
    run = RuleRun(tenant, card, at_ms, cause, draft=ledger, grants=Grants(scope, at_ms, {coupon_id: counts}))
    if points:
        run.award_base(points, "")
    if hears:
        run.happens("coupon_used", coupon=coupon_view(*used))
    facts = run.finished()
    awards = (fact.entry_seq for fact in facts if isinstance(fact, PointsPosted) and fact.rule)
    return Gains(tuple(facts), own_seq, tuple(run.units), next(awards, 0))


def taken_back(scope: Scope, card: Card, redemption: Redemption, at_ms: int) -> Gains:
    """Takes back what a redemption gave, as any reversal does (`actors.points.take_back`)."""
    cause = COUPON_CAUSE + redemption.redemption_id
    returned = units_returned(scope.tenant, card, redemption.rules, cause, at_ms)
    if not redemption.points_seq and not redemption.rules_seq:
        return Gains(tuple(returned))
    ledger = LedgerDraft(scope.tenant, card, at_ms)
    ledger.settle()
    if redemption.points_seq:
        entry = scope.ledger_entry(card.card_id, redemption.points_seq)
        assert entry is not None, "what a redemption awarded is in the ledger"
        take_back(scope.tenant, ledger, entry.fact, None)
    given = sum(units.points for units in redemption.rules)
    take_back_awards(scope, card, ledger, cause, redemption.rules_seq, given)
    return Gains(tuple(ledger.finished(returned)), redemption.points_seq)


def _hears(tenant: Tenant, points: int) -> bool:
    """Whether a use may move a rule, by itself or by the points that it gives."""
    rulebook = tenant.rulebook
    return bool(rulebook.rules) and (
        rulebook.compiled.listens_to("coupon_used") or (points > 0 and rulebook.hears_earnings)
    )
