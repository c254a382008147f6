"""Bugs in coupons that rules grant, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.coupon_grants
import actors.coupon_redemptions
import actors.doors
import actors.kinds
import actors.points
from actors.coupon import Code, Coupon
from actors.coupon_draft import CouponDraft
from actors.coupon_facts import CodeGranted, CodeWithdrawn
from actors.coupon_grants import Grants
from actors.coupon_terms import CouponTerms
from actors.rule_run import RuleRun
from tests.simulation.planting import around, planted
from tests.simulation.postgres_coupons import CouponTables


@planted
def coupons_are_granted_beyond_their_limit() -> Iterator[None]:
    with patch.object(actors.coupon_grants, "_no_use_left", lambda terms, issued: ""):
        yield


@planted
def two_grants_of_one_rule_see_the_same_room() -> Iterator[None]:
    def fault(original: Any, self: Any, coupon_ids: Any, tier: str) -> Any:
        return original(self, list(dict.fromkeys(coupon_ids)), tier)

    with around(Grants, "fault", fault):
        yield


@planted
def a_coupon_forgets_what_was_granted_of_it() -> Iterator[None]:
    """Its counts are those of before, so that more is granted later."""

    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        before = self.counts
        original(self, fact, position)
        if isinstance(fact, CodeGranted):
            self.counts = before

    with around(Coupon, "apply", apply):
        yield


@planted
def whoever_is_asked_again_is_granted_again() -> Iterator[None]:
    """What is granted has another id each time that it is decided, as if ids were drawn and not derived."""
    drawn = iter(range(1_000_000))

    def give(original: Any, self: Any, *told: Any) -> Any:
        granted = original(self, *told)
        return msgspec.structs.replace(granted, code_id=f"grant_{next(drawn)}")

    with around(Grants, "give", give):
        yield


@planted
def coupons_are_granted_to_any_tier() -> Iterator[None]:
    original = actors.coupon_grants.fault_of_terms

    def fault(terms: CouponTerms, tier: str, at_ms: int) -> str:
        return original(msgspec.structs.replace(terms, tiers=()), tier, at_ms)

    with patch.object(actors.coupon_grants, "fault_of_terms", fault):
        yield


@planted
def what_was_granted_stays_when_a_scan_is_annulled() -> Iterator[None]:
    with patch.object(actors.doors, "withdrawn", lambda *_: []):
        yield


@planted
def what_was_granted_stays_when_an_entry_is_reversed() -> Iterator[None]:
    with patch.object(actors.points, "withdrawn", lambda *_: []):
        yield


@planted
def what_was_granted_stays_after_a_rollback() -> Iterator[None]:
    with patch.object(actors.coupon_redemptions, "withdrawn", lambda *_: []):
        yield


@planted
def what_is_used_is_withdrawn() -> Iterator[None]:
    def withdraw(original: Any, self: Any, code: Any, cause: str) -> None:
        original(self, msgspec.structs.replace(code, state="issued"), cause)

    with around(CouponDraft, "withdraw", withdraw):
        yield


@planted
def what_is_withdrawn_is_still_good() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        original(self, fact, position)
        if isinstance(fact, CodeWithdrawn):
            self.state = "issued"

    with around(Code, "apply", apply):
        yield


@planted
def a_grant_is_good_for_any_card() -> Iterator[None]:
    def made(fact: Any, position: int) -> Code:
        return original(msgspec.structs.replace(fact, card_id=""), position)

    original = Code.granted
    route = actors.kinds.ROUTES[CodeGranted]
    with patch.dict(actors.kinds.ROUTES, {CodeGranted: route._replace(birth=made)}):
        yield


@planted
def units_do_not_name_what_was_granted() -> Iterator[None]:
    """So an annulment finds nothing to withdraw."""

    def count(original: Any, self: Any, used: Any, codes: Any) -> Any:
        return original(self, used, ())

    with around(RuleRun, "_count", count):
        yield


@planted
def withdrawals_are_lost_in_postgres() -> Iterator[None]:
    def write(original: Any, self: Any, fact: Any, position: int) -> None:
        original(self, fact, position)
        if isinstance(fact, CodeWithdrawn):
            self.codes[fact.tenant_id, fact.code_id].update(state=("issued", ""))

    with around(CouponTables, "write", write):
        yield
