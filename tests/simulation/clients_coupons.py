"""What clients ask about coupons. Some codes are everybody's, some are issued as the run goes; bills and cards are few,
limits small and holds short, so that all of them meet."""

from __future__ import annotations

from random import Random
from typing import Any

from actors.coupon_commands import (
    CaptureCoupon,
    ChangeCoupon,
    DefineCoupon,
    IssueCoupons,
    RedeemCoupon,
    ReleaseCoupon,
    RollbackCoupon,
)
from actors.coupon_terms import CouponTerms, ItemValue, NewCode, PointsValue
from actors.versions import coupon_version
from tests.simulation.card_clients import TAGS

COUPONS = {"org_a": ("cpn_1", "cpn_2"), "org_b": ("cpn_3", "cpn_4")}
# One has the name of a tag.
BILLS = ("", "", "bill_1", TAGS[0])


def issued_first(coupon_id: str) -> tuple[str, ...]:
    """The codes that there are from the beginning."""
    return tuple(f"code_{coupon_id}_{number}" for number in range(4))


def founding_coupons(rng: Random, tenant_id: str, ids: Any) -> list[Any]:
    """Two coupons, one with codes of its own and one with a shared code; `ids` gives request ids."""
    own, shared = COUPONS[tenant_id]
    few = CouponTerms(
        "Few",
        rng.choice((ItemValue("A tea"), PointsValue(6))),
        uses_max=rng.randint(1, 3),
        uses_per_card_max=rng.choice((0, 1, 2)),
        uses_per_day_max=rng.choice((0, 1, 2)),
    )
    many = CouponTerms(
        *("Many", rng.choice((ItemValue("A tea"), PointsValue(4)))),
        uses_per_card_max=rng.choice((0, 2)),
        uses_per_day_max=rng.choice((0, 2, 3)),
        stacking="with_others",
        shared_code="SUMMER",
    )
    codes = tuple(NewCode(code_id, code_id[-4:]) for code_id in issued_first(own))
    return [
        DefineCoupon(tenant_id, ids(), b"", own, few),
        DefineCoupon(tenant_id, ids(), b"", shared, many, f"shared_{shared}"),
        IssueCoupons(tenant_id, ids(), b"", own, codes),
    ]


class CouponKnowledge:
    """What a client has learned about coupons."""

    def __init__(self) -> None:
        self.redemptions: dict[str, list[str]] = {tenant_id: [] for tenant_id in COUPONS}
        self.codes: dict[str, list[str]] = {
            tenant_id: [*issued_first(own), f"shared_{shared}"] for tenant_id, (own, shared) in COUPONS.items()
        }
        self.terms: dict[str, CouponTerms] = {}

    def learn(self, kind: str, fact: Any) -> None:
        """Takes in an outcome."""
        if kind in ("CouponDefined", "CouponChanged"):
            self.terms[fact.coupon_id] = fact.terms
        elif kind == "CodesIssued":
            self.codes[fact.tenant_id] += [f"code_{fact.request_id}_{number}" for number in range(fact.count)]
        elif kind == "CouponRedeemed":
            self.redemptions[fact.tenant_id].append(fact.redemption_id)

    def redemption(self, rng: Random, tenant_id: str) -> str:
        """One of the last redemptions; now and then another tenant's, or none."""
        known = self.redemptions[tenant_id]
        if rng.random() < 0.03:
            return rng.choice(("rdm_ghost", *(one for ones in self.redemptions.values() for one in ones)))
        return rng.choice(known[-4:]) if known else "rdm_ghost"

    def command(self, rng: Random, now_ms: int, head: tuple[str, str, bytes], card_id: str) -> Any:
        """Something about coupons."""
        tenant_id, request_id, _ = head
        dice = rng.random()
        coupon_id = rng.choice(COUPONS[tenant_id])
        if rng.random() < 0.03:
            coupon_id = rng.choice(("cpn_ghost", "cpn_1", "cpn_3"))
        redemption_id = self.redemption(rng, tenant_id)
        if dice < 0.5:
            code_id = rng.choice(self.codes[tenant_id])
            if rng.random() < 0.04:
                code_id = rng.choice(("code_ghost", "code_cpn_1_0", "code_cpn_3_0"))
            until_ms = rng.choice((0, 0, now_ms + rng.choice((-5, 60, 300, 300, 900, 900, 1_500, 1_500, 90_000_000))))
            # As the edge does it: the id comes from the request's.
            return RedeemCoupon(*head, f"rdm_{request_id}", code_id, card_id, rng.choice(BILLS), until_ms)
        if dice < 0.62:
            return CaptureCoupon(*head, redemption_id)
        if dice < 0.7:
            return ReleaseCoupon(*head, redemption_id)
        if dice < 0.86:
            return RollbackCoupon(*head, redemption_id)
        if dice < 0.93:
            cards = [rng.choice(("", card_id)) for _ in range(rng.randint(1, 3))]
            if rng.random() < 0.05:
                return IssueCoupons(*head, coupon_id, (NewCode(issued_first(COUPONS[tenant_id][0])[0], "pn_0"),))
            codes = tuple(
                NewCode(f"code_{request_id}_{number}", str(number), card) for number, card in enumerate(cards)
            )
            return IssueCoupons(*head, coupon_id, codes)
        if dice < 0.94:
            return DefineCoupon(
                *head, f"cpn_{request_id}", CouponTerms("New", ItemValue("x"), shared_code="S"), f"s_{tenant_id}"
            )
        return self._change(rng, now_ms, head, coupon_id)

    def _change(self, rng: Random, now_ms: int, head: tuple[str, str, bytes], coupon_id: str) -> ChangeCoupon:
        change: dict[str, Any] = rng.choice(
            (
                {"uses_max": rng.randint(1, 4)},
                {"uses_per_card_max": rng.randint(0, 2)},
                {"uses_per_day_max": rng.randint(0, 3)},
                {"state": rng.choice(("active", "paused", "paused", "ended", "draft"))},
                {"state": "active"},
                {"state": "active"},
                {"tiers": ()},
                {"starts_ms": rng.choice((0, now_ms + 400))},
                {"starts_ms": 0},
                {"ends_ms": rng.choice((0, 0, 0, now_ms + 400, 5))},
                {"stacking": "with_others", "group": rng.choice(("", "", "g"))},
                {"value": rng.choice((PointsValue(3), ItemValue("A cake")))},
                {"tiers": rng.choice(((), (), ("bronze",)))},
                {"valid_days": rng.randint(0, 1)},
            )
        )
        terms = self.terms.get(coupon_id)
        if terms is not None and rng.random() < 0.4:
            change["if_version"] = (coupon_version(terms),)
        return ChangeCoupon(*head, coupon_id, **change)
