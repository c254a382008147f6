"""The tables of coupons in the model of Postgres, written from the values in the facts without the actors' `apply`."""

from __future__ import annotations

from typing import Any

from actors.coupon import Bill, Code, Coupon, CouponUse, Redemption
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
)
from actors.coupon_terms import BillCoupon, CouponCounts, Hold
from actors.ports import OtherActor

Key = tuple[str, str]
IN_FORCE = ("on_hold", "redeemed")


class CouponTables:
    """Rows by tenant and id."""

    def __init__(self) -> None:
        self.coupons: dict[Key, dict[str, Any]] = {}
        self.codes: dict[Key, dict[str, Any]] = {}
        self.uses: dict[Key, tuple[str, str, int, int]] = {}
        self.bills: dict[Key, tuple[str, int]] = {}
        self.redemptions: dict[Key, dict[str, Any]] = {}

    def write(self, fact: CouponFact, position: int) -> None:
        """The rows of a fact."""
        tenant_id = fact.tenant_id
        match fact:
            case CouponDefined() | CouponChanged():
                row = self.coupons.setdefault((tenant_id, fact.coupon_id), {"counts": CouponCounts()})
                row.update(terms=fact.terms, position=position)
            case CodesIssued():
                self.coupons[tenant_id, fact.coupon_id].update(counts=fact.counts, position=position)
            case CodeIssued():
                what = (fact.coupon_id, fact.card_id, fact.tail, fact.issue_id, fact.number, fact.at_ms)
                static = (*what, fact.expires_at_ms, fact.is_shared)
                self.codes[tenant_id, fact.code_id] = {"static": static, "state": ("issued", ""), "position": position}
            case CodeGranted():
                what = (fact.coupon_id, fact.card_id, "", fact.cause, fact.number, fact.at_ms)
                static = (*what, fact.expires_at_ms, False)
                self.codes[tenant_id, fact.code_id] = {"static": static, "state": ("issued", ""), "position": position}
                self.coupons[tenant_id, fact.coupon_id].update(counts=fact.counts, position=position)
            case CodeWithdrawn():
                self.codes[tenant_id, fact.code_id].update(state=("withdrawn", ""), position=position)
                self.coupons[tenant_id, fact.coupon_id].update(counts=fact.counts, position=position)
            case CouponUseBegan():
                self.uses[tenant_id, fact.coupon_use_id] = (fact.coupon_id, fact.card_id, 0, position)
            case BillBegan():
                self.bills[tenant_id, fact.bill_id] = (fact.bill, position)
            case CouponRedeemed() | RedemptionChanged():
                self._redemption(fact, position)

    def _redemption(self, fact: CouponRedeemed | RedemptionChanged, position: int) -> None:
        tenant_id = fact.tenant_id
        began_ms = fact.began_at_ms if isinstance(fact, RedemptionChanged) else fact.at_ms
        self.redemptions[tenant_id, fact.redemption_id] = {
            "what": (fact.coupon_id, fact.code_id, fact.card_id, fact.bill),
            "state": fact.state,
            "until": fact.hold_until_ms,
            "rest": (fact.day, fact.value, fact.stacking, fact.group, fact.points_seq),
            "times": (began_ms, fact.at_ms),
            "rules": (fact.rules, fact.rules_seq),
            "position": position,
        }
        self.coupons[tenant_id, fact.coupon_id].update(counts=fact.counts, position=position)
        self.uses[tenant_id, fact.coupon_use_id] = (fact.coupon_id, fact.card_id, fact.card_uses, position)
        if fact.code_id:
            state = (fact.state, fact.redemption_id) if fact.state in IN_FORCE else ("issued", "")
            self.codes[tenant_id, fact.code_id].update(state=state, position=position)

    # --- reading ------------------------------------------------------------------------------------------------------

    def everything(self) -> list[OtherActor]:
        """All that there is."""
        tables = {
            "coupon": self.coupons,
            "code": self.codes,
            "coupon_use": self.uses,
            "bill": self.bills,
            "redemption": self.redemptions,
        }
        return [(kind, *key) for kind, rows in tables.items() for key in rows]  # type: ignore[attr-defined]

    def load(self, kind: str, tenant_id: str, own_id: str) -> Any:
        """An actor as its rows say, None where there are none."""
        key = (tenant_id, own_id)
        match kind:
            case "coupon":
                return self._coupon(key)
            case "code":
                row = self.codes.get(key)
                return row and Code(*key, *row["static"], *row["state"], row["position"])
            case "coupon_use":
                use = self.uses.get(key)
                return use and CouponUse(tenant_id, *use)
            case "bill":
                return self._bill(key)
            case "redemption":
                one = self.redemptions.get(key)
                if one is None:
                    return None
                last = (*one["rest"], *one["times"], *one["rules"], one["position"])
                return Redemption(*key, *one["what"], one["state"], one["until"], *last)
        raise AssertionError(kind)

    def _coupon(self, key: Key) -> Coupon | None:
        row = self.coupons.get(key)
        if row is None:
            return None
        holds = {
            own_id: Hold(one["until"], *one["what"][1:])
            for (tenant_id, own_id), one in self.redemptions.items()
            if tenant_id == key[0] and one["what"][0] == key[1] and one["state"] == "on_hold"
        }
        return Coupon(*key, row["terms"], row["counts"], holds, row["position"])

    def _bill(self, key: Key) -> Bill | None:
        row = self.bills.get(key)
        if row is None:
            return None
        name, position = row
        bill = Bill(key[0], name, {}, position)
        for (tenant_id, own_id), one in self.redemptions.items():
            if (tenant_id, one["what"][3]) == (key[0], name):
                bill.position = max(bill.position, one["position"])
                if one["state"] in IN_FORCE:
                    bill.coupons[own_id] = BillCoupon(one["rest"][2], one["rest"][3], one["until"])
        return bill
