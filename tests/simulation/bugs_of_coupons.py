"""Bugs in what is decided about coupons, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

from actors import coupon_draft, coupon_redemptions
from actors.coupon import Bill, Coupon, CouponUse
from actors.coupon_commands import RollbackCoupon
from actors.coupon_draft import NO_GAINS, CouponDraft
from actors.coupon_terms import CouponCounts
from actors.handlers import HANDLERS
from actors.tiers import standing_of
from tests.simulation.planting import around, deciding, planted
from tests.simulation.postgres_coupons import CouponTables


@planted
def coupon_limit_off_by_one() -> Iterator[None]:
    original = coupon_redemptions._limits_refusal

    def refusal(terms: Any, *more: Any) -> Any:
        return original(msgspec.structs.replace(terms, uses_max=terms.uses_max + bool(terms.uses_max)), *more)

    with patch.object(coupon_redemptions, "_limits_refusal", refusal):
        yield


@planted
def coupon_hold_not_counted() -> Iterator[None]:
    with patch.object(CouponCounts, "uses", property(lambda self: self.redeemed)):
        yield


@planted
def coupon_rolled_back_twice() -> Iterator[None]:
    original = HANDLERS[RollbackCoupon].decide

    def roll_back(scope: Any, command: Any, at_ms: int) -> Any:
        redemption = scope.actors["redemption"]
        if redemption.state == "rolled_back":
            redemption.state = "redeemed"
        return original(scope, command, at_ms)

    with deciding(RollbackCoupon, roll_back):
        yield


@planted
def coupon_day_not_begun_anew() -> Iterator[None]:
    def uses(day: int, counts: CouponCounts) -> int:
        return counts.day_uses

    with patch.object(coupon_redemptions, "uses_on", uses), patch.object(coupon_draft, "uses_on", uses):
        yield


@planted
def coupon_code_redeemed_twice() -> Iterator[None]:
    with patch.object(coupon_redemptions, "_code_refusal", lambda code, draft: None):
        yield


@planted
def coupon_goes_by_a_tier_that_is_over() -> Iterator[None]:
    with patch.object(coupon_redemptions, "standing_at", lambda tenant, card, at_ms: standing_of(card)):
        yield


@planted
def coupon_hold_lapses_with_its_alarm_only() -> Iterator[None]:
    def lapse(original: Any, self: Any, scope: Any) -> None:
        # Only the waking names no kinds that it needs.
        if "card" not in scope.actors and "redemption" not in scope.actors:
            original(self, scope)

    with around(CouponDraft, "_lapse", lapse):
        yield


@planted
def coupon_hold_that_lapsed_stays_on_its_bill() -> Iterator[None]:
    with patch.object(Bill, "in_force", lambda self, at_ms: list(self.coupons.values())):
        yield


@planted
def coupon_points_stay_after_the_rollback() -> Iterator[None]:
    with patch.object(coupon_redemptions, "taken_back", lambda *_: NO_GAINS):
        yield


@planted
def coupon_use_given_back_to_nobody() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        before = self.uses
        original(self, fact, position)
        self.uses = max(before, self.uses)

    with around(CouponUse, "apply", apply):
        yield


@planted
def coupon_forgets_a_captured_hold_too_late() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        kept = dict(self.holds)
        original(self, fact, position)
        if getattr(fact, "state", "") == "redeemed" and fact.redemption_id in kept:
            self.holds[fact.redemption_id] = kept[fact.redemption_id]

    with around(Coupon, "apply", apply):
        yield


@planted
def coupon_counts_lost_in_postgres() -> Iterator[None]:
    def write(original: Any, self: Any, fact: Any, position: int) -> None:
        original(self, fact, position)
        if getattr(fact, "state", "") == "rolled_back":
            row = self.coupons[fact.tenant_id, fact.coupon_id]
            row["counts"] = msgspec.structs.replace(fact.counts, redeemed=fact.counts.redeemed + 1)

    with around(CouponTables, "write", write):
        yield
