"""Faults in the rows of coupons and in facts about them, each with the check that has to find it; and the history that
they are planted into (`tests.support.small_history`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from actors.commands import AwardPoints, Command, ReversePoints
from actors.coupon_commands import (
    CaptureCoupon,
    ChangeCoupon,
    DefineCoupon,
    IssueCoupons,
    RedeemCoupon,
    ReleaseCoupon,
    RollbackCoupon,
)
from actors.coupon_facts import (
    CodeGranted,
    CodesIssued,
    CodeWithdrawn,
    CouponDefined,
    CouponRedeemed,
    RedemptionChanged,
)
from actors.coupon_terms import CouponCounts, CouponTerms, ItemValue, NewCode, PointsValue
from actors.replies import Reply
from actors.rule_commands import SaveRule
from rules import language
from rules.language import GrantCoupon, RuleDefinition

GIFT = CouponTerms("Gift", ItemValue("A cake"), uses_max=2, stacking="with_others")


class Asks(Protocol):
    """Asks new commands, as `small_history.Teller` does."""

    async def do(self, *commands: Command) -> list[Reply]: ...


class Damaged(Protocol):
    """A copy of the history, as `audit_faults.System` is."""

    async def sql(self, query: str, *arguments: object) -> None: ...


async def use_coupons(teller: Asks, tenant_id: str, now_ms: int) -> None:
    """Codes of their own and a shared one; redeemed, held, captured, released, rolled back and refused."""
    head, tea, points = (tenant_id, "", b""), f"cpn_{tenant_id}_tea", f"cpn_{tenant_id}_points"

    def code(number: int) -> str:
        return f"code_{tenant_id}_{number}"

    def redeem(number: int, code_id: str, card: int, bill: str = "", hold_until_ms: int = 0) -> RedeemCoupon:
        return RedeemCoupon(
            *head, f"rdm_{tenant_id}_{number}", code_id, f"card_{tenant_id}_{card}", bill, hold_until_ms
        )

    terms = CouponTerms("Tea", ItemValue("A tea"), uses_max=3, uses_per_card_max=2, uses_per_day_max=3)
    shared = CouponTerms("Five", PointsValue(5), stacking="with_others", group="g", shared_code="FIVE")
    await teller.do(DefineCoupon(*head, tea, terms), DefineCoupon(*head, points, shared, code(9)))
    await teller.do(IssueCoupons(*head, tea, tuple(NewCode(code(number), "tail") for number in range(6))))
    await teller.do(ChangeCoupon(*head, tea, name="Good tea"))
    thanks = RuleDefinition(
        rule_id="rule_thanks",
        version=0,
        name="Thanks",
        on="coupon_used",
        when="coupon.bill != ''",
        then=(language.AwardPoints(2),),
        state="active",
    )
    await teller.do(SaveRule(*head, thanks, True))
    await teller.do(redeem(0, code(0), 1, "bill"), redeem(1, code(1), 1, "", now_ms + 3_600_000), redeem(2, code(2), 1))
    await teller.do(redeem(3, code(2), 3, "", now_ms + 3_600_000), redeem(4, code(3), 4), redeem(5, code(0), 4))
    await teller.do(
        CaptureCoupon(*head, f"rdm_{tenant_id}_1"),
        ReleaseCoupon(*head, f"rdm_{tenant_id}_3"),
        RollbackCoupon(*head, f"rdm_{tenant_id}_0", "wrong"),
    )
    await teller.do(redeem(6, code(9), 3, "till"), redeem(7, code(9), 3, "till"), redeem(8, code(4), 3, "till"))
    await teller.do(
        RollbackCoupon(*head, f"rdm_{tenant_id}_6"),
        redeem(9, code(0), 4, "", now_ms + 3_600_000),
        redeem(5, code(5), 4),
    )
    await _grant_coupons(teller, tenant_id)


async def _grant_coupons(teller: Asks, tenant_id: str) -> None:
    """Top-ups are thanked for with a coupon, of which there are two: one is redeemed, one withdrawn, and a third is
    granted instead."""
    head, gift, card_id = (tenant_id, "", b""), f"cpn_{tenant_id}_gift", f"card_{tenant_id}_1"
    rule = RuleDefinition(
        rule_id="rule_gift",
        version=0,
        name="Gift",
        on="top_up",
        when="true",
        then=(GrantCoupon(gift),),
        state="active",
    )
    await teller.do(DefineCoupon(*head, gift, GIFT), SaveRule(*head, rule, True))
    top_up = AwardPoints(*head, card_id, 7, account="wallet")
    facts: list[Any] = [getattr(reply, "fact", None) for reply in await teller.do(top_up, top_up, top_up)]
    used, unused = (fact.rules[0].codes[0] for fact in facts[:2])
    await teller.do(RedeemCoupon(*head, f"rdm_{tenant_id}_gift", used, card_id))
    await teller.do(*(ReversePoints(*head, card_id, fact.entry_seq) for fact in facts[:2]))
    await teller.do(RedeemCoupon(*head, f"rdm_{tenant_id}_none", unused, card_id), top_up)


def _changed(query: str) -> Callable[[Damaged], Awaitable[None]]:
    async def plant(system: Damaged) -> None:
        await system.sql(query)

    plant.__name__ = query.split()[1] if query.startswith("UPDATE") else query.split()[2]
    return plant


ROW_FAULTS: dict[Any, str] = {
    _changed(query): check
    for query, check in (
        ("UPDATE coupons SET terms = jsonb_set(terms, '{7}', '99')", "coupons_rows"),
        ("UPDATE coupon_counts SET redeemed = redeemed - 1 WHERE redeemed > 0", "coupon_counts_rows"),
        ("UPDATE coupon_codes SET card_id = 'card_x'", "coupon_codes_rows"),
        ("DELETE FROM coupon_code_states WHERE state = 'redeemed'", "coupon_code_states_rows"),
        ("DELETE FROM coupon_code_states WHERE state = 'withdrawn'", "coupon_code_states_rows"),
        ("DELETE FROM coupon_codes WHERE tail = ''", "coupon_codes_rows"),
        ("UPDATE coupon_uses SET uses = 0 WHERE uses > 0", "coupon_uses_rows"),
        ("UPDATE coupon_bills SET begun_at_ms = 1", "coupon_bills_rows"),
        ("UPDATE coupon_redemptions SET rules = '[]'", "coupon_redemptions_rows"),
        ("UPDATE coupon_redemptions SET state = 'redeemed' WHERE state = 'rolled_back'", "coupon_redemptions_rows"),
    )
}


def _less(**changes: Any) -> CouponTerms:
    return msgspec.structs.replace(GIFT, **changes)


WRONG_COUPON_FACTS: dict[str, tuple[type[Any], dict[str, Any], dict[str, Any], str]] = {
    "counts a use too few": (CouponRedeemed, {"state": "redeemed"}, {"counts": CouponCounts(6)}, "coupons"),
    "counts codes that are not there": (CodesIssued, {}, {"counts": CouponCounts(7)}, "coupons"),
    "forgets what the card has used": (CouponRedeemed, {"card_uses": 2}, {"card_uses": 1}, "coupons"),
    "announces points and gives none": (CouponRedeemed, {"points_seq": 0}, {"points_seq": 1}, "coupons"),
    "stands alone beside another": (CouponRedeemed, {"bill": "till", "card_uses": 2}, {"stacking": "alone"}, "coupons"),
    "rolls back what was released": (RedemptionChanged, {"state": "released"}, {"state": "rolled_back"}, "coupons"),
    "forgets what rules used": (CouponRedeemed, {"bill": "bill", "state": "redeemed"}, {"rules": ()}, "rules"),
    "grants more than may be redeemed": (CouponDefined, {"terms": GIFT}, {"terms": _less(uses_max=1)}, "grants"),
    "grants what is not out": (CouponDefined, {"terms": GIFT}, {"terms": _less(state="draft")}, "grants"),
    "grants what is over": (CouponDefined, {"terms": GIFT}, {"terms": _less(ends_ms=1)}, "grants"),
    "grants another coupon": (CodeGranted, {}, {"coupon_id": "cpn_other"}, "grants"),
    "grants for another cause": (CodeGranted, {}, {"cause": "entry:1"}, "grants"),
    "grants what nothing tells of": (CodeGranted, {}, {"code_id": "grant_other"}, "grants"),
    "grants and does not count it": (CodeGranted, {}, {"counts": CouponCounts()}, "coupons"),
    "withdraws what was not granted": (CodeWithdrawn, {}, {"code_id": "grant_other"}, "grants"),
    "redeems what another card was granted": (CouponRedeemed, {"value": GIFT.value}, {"card_id": "card_x"}, "grants"),
    "lapses before its time": (RedemptionChanged, {"state": "released"}, {"state": "lapsed"}, "coupons"),
}
