"""Random facts about coupons for `tests.support.histories`: each follows from the states that it builds on."""

from __future__ import annotations

from random import Random

import msgspec

from actors.coupon import Code, Coupon, CouponUse, Redemption
from actors.coupon_facts import (
    BillBegan,
    CodeGranted,
    CodeIssued,
    CodesIssued,
    CodeWithdrawn,
    CouponChanged,
    CouponDefined,
    CouponFact,
    CouponRedeemed,
    CouponUseBegan,
    RedemptionChanged,
    bill_id_of,
    use_id_of,
)
from actors.coupon_terms import (
    AmountValue,
    CouponTerms,
    CouponValue,
    ItemValue,
    PercentValue,
    PointsValue,
    RedemptionState,
)
from actors.rule_facts import RuleUnits
from storage.replay import WorldState

FINGERPRINT = b"coupons!"
COUPONS = ("cpn_0", "cpn_1")
BILLS = ("", "bill_0", "bill_1")
_NEXT: dict[str, tuple[RedemptionState, ...]] = {
    "on_hold": ("redeemed", "released", "lapsed"),
    "redeemed": ("rolled_back",),
}


def coupon_fact(
    random: Random, world: WorldState, tenant_id: str, card_id: str, request_id: str, at_ms: int, text: str
) -> CouponFact:
    """The next fact about one of few coupons; what it needs comes to be first."""
    asked, caused = (tenant_id, request_id, FINGERPRINT, at_ms), (tenant_id, "", b"", at_ms)
    coupon_id, bill = random.choice(COUPONS), random.choice(BILLS)
    coupon: Coupon | None = world.actors["coupon"].get((tenant_id, coupon_id))
    if coupon is None:
        return CouponDefined(*asked, coupon_id, CouponTerms(text, _value(random)))
    if random.random() < 0.1:
        return CouponChanged(*asked, coupon_id, CouponTerms(text, _value(random), "paused", ("gold",)))
    if random.random() < 0.15:
        count = random.randrange(1, 5)
        counts = msgspec.structs.replace(coupon.counts, issued=coupon.counts.issued + count)
        return CodesIssued(*asked, coupon_id, count, counts)
    codes = [code for (owner, _), code in world.actors["code"].items() if owner == tenant_id]
    if random.random() < 0.15:
        return _granted(random, coupon, codes, card_id, at_ms)
    if len(codes) < 3 or random.random() < 0.1:
        code_id = f"code_{len(codes)}"
        return CodeIssued(*caused, code_id, coupon_id, random.choice(("", card_id)), text[-4:], "request", len(codes))
    use: CouponUse | None = world.actors["coupon_use"].get((tenant_id, use_id_of(coupon_id, card_id)))
    if use is None:
        return CouponUseBegan(*caused, coupon_id, card_id)
    if bill and (tenant_id, bill_id_of(tenant_id, bill)) not in world.actors["bill"]:
        return BillBegan(*caused, bill)
    open_ones = [
        one
        for (owner, _), one in world.actors["redemption"].items()
        if owner == tenant_id and one.coupon_id == coupon_id and one.state in _NEXT
    ]
    if open_ones and random.random() < 0.5:
        return _changed(random, world, coupon, random.choice(open_ones), asked, text)
    state: RedemptionState = random.choice(("on_hold", "redeemed"))
    return CouponRedeemed(
        *asked,
        *(
            f"rdm_{len(world.actors['redemption'])}",
            coupon_id,
            random.choice(("", codes[0].code_id, codes[-1].code_id)),
        ),
        *(card_id, bill, state, at_ms + 9 if state == "on_hold" else 0, 20_261_121 + random.randrange(2)),
        value=_value(random),
        stacking=random.choice(("alone", "with_others")),
        group=text,
        counts=msgspec.structs.replace(
            coupon.counts,
            redeemed=coupon.counts.redeemed + (state == "redeemed"),
            on_hold=coupon.counts.on_hold + (state == "on_hold"),
            day=20_261_121,
            day_uses=random.randrange(9),
        ),
        card_uses=use.uses + 1,
        points_seq=random.choice((0, 3)),
        rules=random.choice(((), (RuleUnits("rule_1", 2, 5, 20_261_121, ("grant_1",)), RuleUnits("rule_2", 1, 0)))),
        rules_seq=random.choice((0, 4)),
    )


def _granted(random: Random, coupon: Coupon, codes: list[Code], card_id: str, at_ms: int) -> CouponFact:
    """A rule grants the coupon, or what was granted is withdrawn."""
    caused = (coupon.tenant_id, "", b"", at_ms)
    unused = [one for one in codes if one.coupon_id == coupon.coupon_id and not one.tail and one.state == "issued"]
    if unused and random.random() < 0.5:
        code = random.choice(unused)
        counts = msgspec.structs.replace(coupon.counts, issued=coupon.counts.issued - 1)
        return CodeWithdrawn(*caused, code.code_id, coupon.coupon_id, code.card_id, code.issue_id, counts)
    counts = msgspec.structs.replace(coupon.counts, issued=coupon.counts.issued + 1)
    told = (f"grant_{coupon.tenant_id}_{len(codes)}", coupon.coupon_id, card_id, "checkin:scan", "rule_1", 2, 0)
    return CodeGranted(*caused, *told, random.choice((0, at_ms + 9)), counts)


def _changed(
    random: Random,
    world: WorldState,
    coupon: Coupon,
    redemption: Redemption,
    asked: tuple[str, str, bytes, int],
    text: str,
) -> RedemptionChanged:
    state = random.choice(_NEXT[redemption.state])
    use = world.actors["coupon_use"][redemption.tenant_id, use_id_of(redemption.coupon_id, redemption.card_id)]
    return RedemptionChanged(
        *(asked if state != "lapsed" else (asked[0], "", b"", asked[3])),
        *(redemption.redemption_id, redemption.coupon_id, redemption.code_id, redemption.card_id, redemption.bill),
        *(state, 0 if state == "redeemed" else redemption.hold_until_ms, redemption.day),
        value=redemption.value,
        stacking=redemption.stacking,
        group=redemption.group,
        counts=msgspec.structs.replace(
            coupon.counts,
            redeemed=coupon.counts.redeemed + (state == "redeemed") - (state == "rolled_back"),
            on_hold=coupon.counts.on_hold - (state != "rolled_back"),
        ),
        card_uses=use.uses - (state != "redeemed"),
        points_seq=random.choice((redemption.points_seq, 7)),
        began_at_ms=redemption.began_at_ms,
        note=text,
        rules=redemption.rules or random.choice(((), (RuleUnits("rule_3", 1, 7),))),
        rules_seq=redemption.rules_seq,
    )


def _value(random: Random) -> CouponValue:
    return random.choice((PointsValue(5), PercentValue(10, 5_000), AmountValue(7), ItemValue("Trà đá")))
