"""Deciding what becomes of coupons at the till: redeem or hold, capture, release, roll back. Pure.

Rules:
1. Holds that have lapsed are ended before anything else is decided about their coupon, whether its alarm rang or not,
   so no answer depends on when it rings.
2. Limits count redemptions in force and open holds. A redemption counts for the local day on which it was begun; taken
   back, it makes room on that day only while that day is the one that is counted (a coupon remembers its last).
3. A coupon's day never goes back, whatever becomes of its tenant's time zone: uses then count for the later day.
4. What a redemption is worth is settled when it begins; what it gives (`actors.coupon_rules`) is given when it is in
   force, and taken back with it.
5. A redemption ends once: later attempts say how it ended.
"""

from __future__ import annotations

from actors.calendar import local_day
from actors.card import Card
from actors.coupon import Bill, Code, Coupon, CouponUse, Redemption
from actors.coupon_commands import CaptureCoupon, RedeemCoupon, ReleaseCoupon, RollbackCoupon
from actors.coupon_draft import NO_GAINS, CouponDraft, uses_on
from actors.coupon_facts import bill_id_of, use_id_of
from actors.coupon_grants import withdrawn
from actors.coupon_rules import gained, taken_back
from actors.coupon_terms import (
    COUPONS_PER_BILL_MAX,
    HOLD_MS_MAX,
    HOLDS_PER_COUPON_MAX,
    CouponTerms,
    PointsValue,
    RedemptionState,
)
from actors.coupons import refused
from actors.facts import Fact
from actors.ledger import BALANCE_MAX, COUPON_CAUSE
from actors.refusals import (
    ALREADY_ROLLED_BACK,
    CARD_NOT_ACTIVE,
    COUPON_ALREADY_USED,
    COUPON_CARD_LIMIT_REACHED,
    COUPON_ENDED,
    COUPON_EXPIRED,
    COUPON_LIMIT_REACHED,
    COUPON_NOT_ACTIVE,
    COUPON_NOT_COMBINABLE,
    COUPON_NOT_FOR_CARD,
    COUPON_NOT_REDEEMED,
    COUPON_NOT_STARTED,
    COUPON_ON_HOLD,
    COUPON_WITHDRAWN,
    HOLD_CAPTURED,
    HOLD_INVALID,
    HOLD_LAPSED,
    HOLD_RELEASED,
    LIMIT_REACHED,
)
from actors.scope import Scope
from actors.tenant import Tenant
from actors.tiers import standing_at

Refusal = tuple[str, str]
_ENDED: dict[RedemptionState, Refusal] = {
    "redeemed": (HOLD_CAPTURED, "it is redeemed"),
    "released": (HOLD_RELEASED, "the hold was released"),
    "lapsed": (HOLD_LAPSED, "the hold has lapsed"),
    "rolled_back": (ALREADY_ROLLED_BACK, "the redemption was rolled back"),
}


def decide_redeem_coupon(scope: Scope, command: RedeemCoupon, at_ms: int) -> list[Fact]:
    """Redeems or holds a coupon, or refuses: the hold's end, then as `actors.refusals` lists them."""
    card = scope.card
    code: Code = scope.actors["code"]
    bill_id = bill_id_of(command.tenant_id, command.bill)
    keys = [("coupon", code.coupon_id), ("coupon_use", use_id_of(code.coupon_id, card.card_id))]
    coupon, use, *bills = scope.find_all([*keys, ("bill", bill_id)] if bill_id else keys)
    bill: Bill | None = bills[0] if bills else None
    draft = CouponDraft(scope, coupon, at_ms)
    day = local_day(at_ms, scope.tenant.settings.time_zone)
    refusal = (
        _hold_refusal(command.hold_until_ms, at_ms)
        or _terms_refusal(scope.tenant, coupon.terms, code, card, at_ms)
        or _code_refusal(code, draft)
        or _bill_refusal(coupon.terms, bill, at_ms)
        or _limits_refusal(coupon.terms, draft, use, day)
        or _card_refusal(coupon.terms, card, at_ms)
    )
    if not refusal and command.hold_until_ms and draft.open_holds >= HOLDS_PER_COUPON_MAX:
        refusal = (LIMIT_REACHED, f"a coupon has at most {HOLDS_PER_COUPON_MAX} open holds")
    if refusal:
        return draft.finished(refused(command, command.code_id, *refusal, at_ms))
    gains = NO_GAINS
    if not command.hold_until_ms:
        used = (coupon.coupon_id, coupon.terms.value, command.bill)
        gains = gained(scope, card, used, command.redemption_id, at_ms, draft.counts_begun(day, is_hold=False))
    draft.begin(command, code, use, bill, day, gains)
    return draft.finished()


def decide_capture_coupon(scope: Scope, command: CaptureCoupon, at_ms: int) -> list[Fact]:
    """A hold is redeemed; what it gives is given now. Or refuses: how it ended, the balance's limit."""
    redemption: Redemption = scope.actors["redemption"]
    draft, use, card = _at_hand(scope, redemption, at_ms)
    refusal = _hold_ended(redemption, draft)
    if not refusal and isinstance(redemption.value, PointsValue):
        refusal = _balance_refusal(card, redemption.value.points)
    if refusal:
        return draft.finished(refused(command, command.redemption_id, *refusal, at_ms))
    used = (redemption.coupon_id, redemption.value, redemption.bill)
    counts = draft.counts_after(redemption, "redeemed")
    gains = gained(scope, card, used, redemption.redemption_id, at_ms, counts)
    draft.change(redemption, use, "redeemed", (command.request_id, command.fingerprint), gains)
    return draft.finished()


def decide_release_coupon(scope: Scope, command: ReleaseCoupon, at_ms: int) -> list[Fact]:
    """A hold ends without a redemption; or refuses: how it ended before."""
    redemption: Redemption = scope.actors["redemption"]
    draft, use, _ = _at_hand(scope, redemption, at_ms)
    refusal = _hold_ended(redemption, draft)
    if refusal:
        return draft.finished(refused(command, command.redemption_id, *refusal, at_ms))
    draft.change(redemption, use, "released", (command.request_id, command.fingerprint))
    return draft.finished()


def decide_rollback_coupon(scope: Scope, command: RollbackCoupon, at_ms: int) -> list[Fact]:
    """A redemption is taken back; or refuses: it is rolled back already, it never was in force."""
    redemption: Redemption = scope.actors["redemption"]
    draft, use, card = _at_hand(scope, redemption, at_ms)
    if redemption.state != "redeemed":
        refusal = (COUPON_NOT_REDEEMED, "there is no redemption in force to roll back")
        if redemption.state == "rolled_back":
            refusal = _ENDED["rolled_back"]
        return draft.finished(refused(command, command.redemption_id, *refusal, at_ms))
    back = taken_back(scope, card, redemption, at_ms)
    request = (command.request_id, command.fingerprint)
    draft.change(redemption, use, "rolled_back", request, back, command.note)
    others = withdrawn(scope, redemption.rules, COUPON_CAUSE + redemption.redemption_id, at_ms, draft)
    return draft.finished(*others)


def decide_wake_coupon(scope: Scope, coupon: Coupon, at_ms: int) -> list[Fact]:
    """Holds that have lapsed end, and the alarm is set to what comes next."""
    return CouponDraft(scope, coupon, at_ms).woken()


def _at_hand(scope: Scope, redemption: Redemption, at_ms: int) -> tuple[CouponDraft, CouponUse, Card]:
    """What a redemption is about; its code and its bill, which the facts change, are there, too."""
    use_id = use_id_of(redemption.coupon_id, redemption.card_id)
    keys = [("coupon", redemption.coupon_id), ("coupon_use", use_id), ("card", redemption.card_id)]
    keys += [("code", redemption.code_id)] if redemption.code_id else []
    keys += [("bill", bill_id_of(redemption.tenant_id, redemption.bill))] if redemption.bill else []
    coupon, use, card, *_ = scope.find_all(keys)
    return CouponDraft(scope, coupon, at_ms), use, card


def _hold_refusal(hold_until_ms: int, at_ms: int) -> Refusal | None:
    if hold_until_ms and not at_ms < hold_until_ms <= at_ms + HOLD_MS_MAX:
        return HOLD_INVALID, f"hold_until must lie in the future, at most {HOLD_MS_MAX // 3_600_000} hours ahead"
    return None


def _terms_refusal(tenant: Tenant, terms: CouponTerms, code: Code, card: Card, at_ms: int) -> Refusal | None:
    if terms.state == "ended":
        return COUPON_ENDED, "the coupon has ended"
    if terms.state != "active":
        return COUPON_NOT_ACTIVE, f"the coupon is {'paused' if terms.state == 'paused' else 'not out yet'}"
    if at_ms < terms.starts_ms:
        return COUPON_NOT_STARTED, "it is too early for the coupon"
    ends = [end_ms for end_ms in (terms.ends_ms, code.expires_at_ms) if end_ms]
    if ends and at_ms >= min(ends):
        return COUPON_EXPIRED, "it is too late for the coupon"
    # A review that is due counts, though nobody has looked yet.
    is_in_tier = not terms.tiers or standing_at(tenant, card, at_ms).tier in terms.tiers
    if code.card_id not in ("", card.card_id) or not is_in_tier:
        return COUPON_NOT_FOR_CARD, "the coupon is for other cards"
    return None


def _code_refusal(code: Code, draft: CouponDraft) -> Refusal | None:
    if code.state == "redeemed":
        return COUPON_ALREADY_USED, "the code has been redeemed"
    if code.state == "on_hold" and code.redemption_id not in draft.lapsed:
        return COUPON_ON_HOLD, "the code is on hold"
    if code.state == "withdrawn":
        return COUPON_WITHDRAWN, "what it was granted for was annulled"
    return None


def _bill_refusal(terms: CouponTerms, bill: Bill | None, at_ms: int) -> Refusal | None:
    others = bill.in_force(at_ms) if bill is not None else []
    kind = (terms.stacking, terms.group)
    if others and (terms.stacking == "alone" or any((one.stacking, one.group) != kind for one in others)):
        return COUPON_NOT_COMBINABLE, "the coupon does not go together with what is on the bill"
    if len(others) >= COUPONS_PER_BILL_MAX:
        return LIMIT_REACHED, f"a bill has at most {COUPONS_PER_BILL_MAX} coupons"
    return None


def _limits_refusal(terms: CouponTerms, draft: CouponDraft, use: CouponUse | None, day: int) -> Refusal | None:
    counts = draft.counts
    if terms.uses_per_card_max and draft.uses_of(use) >= terms.uses_per_card_max:
        return COUPON_CARD_LIMIT_REACHED, f"{terms.uses_per_card_max} times a card"
    if terms.uses_max and counts.uses >= terms.uses_max:
        return COUPON_LIMIT_REACHED, f"{terms.uses_max} times in all"
    if terms.uses_per_day_max and uses_on(max(day, counts.day), counts) >= terms.uses_per_day_max:
        return COUPON_LIMIT_REACHED, f"{terms.uses_per_day_max} times a day"
    return None


def _card_refusal(terms: CouponTerms, card: Card, at_ms: int) -> Refusal | None:
    if card.state != "active":
        return CARD_NOT_ACTIVE, f"the card is {card.state}"
    if at_ms < card.valid_from_ms or 0 < card.valid_until_ms <= at_ms:
        return CARD_NOT_ACTIVE, "the card is not valid now"
    return _balance_refusal(card, terms.value.points) if isinstance(terms.value, PointsValue) else None


def _balance_refusal(card: Card, points: int) -> Refusal | None:
    return (LIMIT_REACHED, f"a balance cannot exceed {BALANCE_MAX}") if card.balance + points > BALANCE_MAX else None


def _hold_ended(redemption: Redemption, draft: CouponDraft) -> Refusal | None:
    state: RedemptionState = "lapsed" if redemption.redemption_id in draft.lapsed else redemption.state
    return _ENDED.get(state)
