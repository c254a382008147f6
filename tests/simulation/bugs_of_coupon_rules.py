"""Bugs where rules and coupons meet, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import actors.coupon_rules
import actors.rule_run
from actors.coupon import Redemption
from tests.simulation.planting import around, planted
from tests.simulation.postgres_coupons import CouponTables


@planted
def a_rollback_keeps_what_rules_used() -> Iterator[None]:
    with patch.object(actors.coupon_rules, "units_returned", lambda *_: []):
        yield


@planted
def awards_of_rules_stay_after_the_rollback_of_a_coupon() -> Iterator[None]:
    with patch.object(actors.coupon_rules, "take_back_awards", lambda *_: None):
        yield


@planted
def points_of_a_coupon_are_earned_before_no_rule() -> Iterator[None]:
    with patch.object(actors.rule_run, "_WITH_BASE", frozenset({"checkin"})):
        yield


@planted
def a_redemption_forgets_what_rules_used() -> Iterator[None]:
    """It comes into its state with nothing of it, so its rollback gives nothing back."""

    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        original(self, fact, position)
        self.rules, self.rules_seq = (), 0

    with around(Redemption, "apply", apply):
        yield


@planted
def what_rules_used_for_a_coupon_is_lost_in_postgres() -> Iterator[None]:
    def write(original: Any, self: Any, fact: Any, position: int) -> None:
        original(self, fact, position)
        for row in self.redemptions.values():
            row["rules"] = ((), 0)

    with around(CouponTables, "write", write):
        yield
