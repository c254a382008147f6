"""Coupons that rules grant: a code for one card, without a text. Pure.

Rules:
1. What is granted could be redeemed there and then by that card, but for limits per card and per day, which the till
   judges: the coupon is active and within its time, and is for the card's tier.
2. A grant takes one of the coupon's uses that no code has yet: no more codes are granted than the limit in all allows,
   whoever issued the others. So nobody is promised what all of them cannot have.
3. A coupon with a shared code is not granted: everybody has it already.
4. When a cause is annulled, what was granted for it is withdrawn, unless it is used or held at a till: what was handed
   over stays, and a till is not told otherwise while the customer stands there.
5. Whether a coupon has room is decided on top of what the same decision granted and used of it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from actors.coupon import Code, Coupon
from actors.coupon_draft import CouponDraft
from actors.coupon_facts import CodeGranted, granted_code_id
from actors.coupon_terms import CODES_PER_COUPON_MAX, DAY_MS, CouponCounts, CouponTerms
from actors.facts import Fact
from actors.refusals import (
    COUPON_ENDED,
    COUPON_EXPIRED,
    COUPON_LIMIT_REACHED,
    COUPON_NOT_ACTIVE,
    COUPON_NOT_FOR_CARD,
    COUPON_NOT_STARTED,
    COUPON_UNKNOWN,
)
from actors.rule_facts import RuleUnits
from actors.scope import Scope


class Grants:
    """What rules grant in one decision. `counts` are those of coupons that the decision has changed already."""

    __slots__ = ("_at_ms", "_counts", "_scope")

    def __init__(self, scope: Scope, at_ms: int, counts: dict[str, CouponCounts] | None = None) -> None:
        self._scope = scope
        self._at_ms = at_ms
        self._counts = counts if counts is not None else {}

    def fault(self, coupon_ids: Sequence[str], tier: str) -> str:
        """Why not all of these can be granted to a card of this tier, "" if they can. Raises `NotLoaded`."""
        coupons = self._scope.find_all(("coupon", coupon_id) for coupon_id in coupon_ids)
        for place, coupon in enumerate(coupons):
            if coupon is None:
                return COUPON_UNKNOWN
            issued = self._counts_of(coupon).issued + coupon_ids[:place].count(coupon.coupon_id)
            fault = fault_of_terms(coupon.terms, tier, self._at_ms) or _no_use_left(coupon.terms, issued)
            if fault:
                return fault
        return ""

    def give(self, coupon_id: str, card_id: str, cause: str, rule: tuple[str, int], number: int) -> CodeGranted:
        """Grants a coupon in which there is no fault."""
        tenant_id, at_ms = self._scope.tenant_id, self._at_ms
        coupon: Coupon = self._scope.find("coupon", coupon_id)
        counts = self._counts_of(coupon)
        counts = self._counts[coupon_id] = replace(counts, issued=counts.issued + 1)
        expires_at_ms = at_ms + coupon.terms.valid_days * DAY_MS if coupon.terms.valid_days else 0
        code_id = granted_code_id(tenant_id, card_id, cause, rule, number)
        told = (code_id, coupon_id, card_id, cause, *rule, number, expires_at_ms, counts)
        return CodeGranted(tenant_id, "", b"", at_ms, *told)

    def _counts_of(self, coupon: Coupon) -> CouponCounts:
        return self._counts.get(coupon.coupon_id, coupon.counts)


def fault_of_terms(terms: CouponTerms, tier: str, at_ms: int) -> str:
    """Why a coupon is not granted at a time to a card of this tier, "" for nothing (rules 1 and 3)."""
    if terms.state == "ended":
        return COUPON_ENDED
    if terms.state != "active" or terms.shared_code:
        return COUPON_NOT_ACTIVE
    if at_ms < terms.starts_ms:
        return COUPON_NOT_STARTED
    if 0 < terms.ends_ms <= at_ms:
        return COUPON_EXPIRED
    return COUPON_NOT_FOR_CARD if terms.tiers and tier not in terms.tiers else ""


def _no_use_left(terms: CouponTerms, issued: int) -> str:
    return COUPON_LIMIT_REACHED if issued >= (terms.uses_max or CODES_PER_COUPON_MAX) else ""


def withdrawn(
    scope: Scope, units: Iterable[RuleUnits], cause: str, at_ms: int, own: CouponDraft | None = None
) -> list[Fact]:
    """What the annulment of a cause withdraws of what rules granted for it (rule 4). What is of the coupon that `own`
    is about goes there; the rest comes back. Raises `NotLoaded`."""
    code_ids = [code_id for one in units for code_id in one.codes]
    if not code_ids:
        return []
    codes: list[Code] = scope.find_all(("code", code_id) for code_id in code_ids)
    drafts: dict[str, CouponDraft] = {own.coupon_id: own} if own is not None else {}
    coupon_ids = [one for one in dict.fromkeys(code.coupon_id for code in codes) if one not in drafts]
    for coupon in scope.find_all(("coupon", coupon_id) for coupon_id in coupon_ids):
        drafts[coupon.coupon_id] = CouponDraft(scope, coupon, at_ms)
    for code in codes:
        drafts[code.coupon_id].withdraw(code, cause)
    return [fact for coupon_id in coupon_ids for fact in drafts[coupon_id].finished()]
