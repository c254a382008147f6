"""The oracle's part about coupons that rules grant: how many codes a coupon has is counted anew for every grant, and
what was granted for a cause is found by looking at all codes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

Expected = tuple[str, dict[str, Any]]
DAY_MS = 86_400_000


def code_of(tenant_id: str, coupon_id: str, card_id: str, expires_ms: int, *, shared: bool = False) -> dict[str, Any]:
    """A new code."""
    code: dict[str, Any] = {"tenant": tenant_id, "coupon": coupon_id, "card": card_id, "expires": expires_ms}
    return {**code, "shared": shared, "withdrawn": False, "cause": None}


class GrantOracle:
    """Which coupons rules may grant, and what becomes of them."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def can_be_granted(self, tenant_id: str, action: Any) -> bool:
        """Whether a rule with this action can be saved."""
        if type(action).__name__ != "GrantCoupon":
            return True
        coupon = self._oracle.coupons.coupons.get(action.coupon_id)
        if coupon is None or coupon["tenant"] != tenant_id:
            return False
        return coupon["terms"]["state"] != "ended" and not coupon["terms"]["shared_code"]

    def fault(self, coupon_ids: Sequence[str], card_id: str) -> str:
        """Why not all of these can be granted now, "" if they can."""
        now, tier = self._oracle.at_ms, self._oracle.cards[card_id]["tier"]
        for place, coupon_id in enumerate(coupon_ids):
            terms = self._oracle.coupons.coupons[coupon_id]["terms"]
            taken = self._oracle.coupons.counts(coupon_id)[0] + list(coupon_ids[:place]).count(coupon_id)
            checks = (
                (terms["state"] == "ended", "coupon_ended"),
                (terms["state"] != "active", "coupon_not_active"),
                (now < terms["starts_ms"], "coupon_not_started"),
                (0 < terms["ends_ms"] <= now, "coupon_expired"),
                (terms["tiers"] and tier not in terms["tiers"], "coupon_not_for_card"),
                (terms["uses_max"] and taken >= terms["uses_max"], "coupon_limit_reached"),
            )
            for is_broken, reason in checks:
                if is_broken:
                    return reason
        return ""

    def give(self, coupon_id: str, cause: tuple[str, str], rule: tuple[str, int]) -> dict[str, Any]:
        """A coupon is granted; the fields of the fact."""
        coupons, (card_id, what) = self._oracle.coupons, cause
        tenant_id = coupons.coupons[coupon_id]["tenant"]
        number = sum(code["cause"] == cause for code in coupons.codes.values())
        parts = (tenant_id, card_id, what, rule[0], str(rule[1]), str(number))
        code_id = f"grant_{blake2b(chr(0).join(parts).encode(), digest_size=13).hexdigest()}"
        assert code_id not in coupons.codes, "nothing is granted twice"
        days = coupons.coupons[coupon_id]["terms"]["valid_days"]
        expires_ms = self._oracle.at_ms + days * DAY_MS if days else 0
        coupons.codes[code_id] = code_of(tenant_id, coupon_id, card_id, expires_ms) | {"cause": cause}
        told = {"code_id": code_id, "coupon_id": coupon_id, "card_id": card_id, "cause": what, "number": number}
        told.update(rule_id=rule[0], version=rule[1], expires_at_ms=expires_ms, counts=coupons.counts(coupon_id))
        return told

    def withdrawn(self, card_id: str, cause: str) -> list[Expected]:
        """The cause is annulled: so is what it granted and nobody has used."""
        return self.withdrawn_beside(card_id, cause, "")[1]

    def withdrawn_beside(self, card_id: str, cause: str, own_id: str) -> tuple[list[Expected], list[Expected]]:
        """The same, apart for one coupon, whose lapsed holds have ended and whose alarm is told already."""
        coupons = self._oracle.coupons
        granted = {own: code for own, code in coupons.codes.items() if code["cause"] == (card_id, cause)}
        told: dict[str, list[Expected]] = {own_id: []}
        alarms = {code["coupon"]: coupons.alarm(code["coupon"]) for code in granted.values()}
        for coupon_id in alarms:
            told.setdefault(coupon_id, [] if coupon_id == own_id else coupons.lapse(coupon_id))
        for code_id, code in granted.items():
            states = [one["state"] for one in coupons.redemptions.values() if one["code"] == code_id]
            if not code["withdrawn"] and not {"on_hold", "redeemed"}.intersection(states):
                code["withdrawn"] = True
                fields = {"code_id": code_id, "coupon_id": code["coupon"], "card_id": card_id, "cause": cause}
                told[code["coupon"]].append(("CodeWithdrawn", {**fields, "counts": coupons.counts(code["coupon"])}))
        for coupon_id, before in alarms.items():
            after = coupons.alarm(coupon_id)
            if coupon_id != own_id and after != before:
                told[coupon_id].append(("AlarmSet", {"entity_id": coupon_id, "wake_ms": after, "rang": False}))
        own = told.pop(own_id)
        return own, [one for ones in told.values() for one in ones]
