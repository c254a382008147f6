"""Moments and rules for the tests of the rule language: a card at a door on a Tuesday evening, and what else is
asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from rules.language import Action, AwardPoints, RuleDefinition, Trigger
from rules.moment import (
    CardView,
    CountsView,
    CouponView,
    EventView,
    MemberView,
    Moment,
    PointsView,
    ScanView,
    StreakView,
    TierView,
    TopUpView,
)
from rules.schedule import local_time

ZONE = "Asia/Ho_Chi_Minh"
TUESDAY = "2026-05-19T18:10:00+07:00"
VIEWS: dict[str, Any] = {
    "card": CardView("card_1", "gold", points=120, earned=900, wallet=50_000, issued_days=40),
    "member": MemberView("mem_1", 504, {"city": "Hà Nội", "vip": True, "age": 31, "ratio": 1.5, "likes": ["jazz"]}),
    "counts": CountsView(visits_today=1, visits_week=2, visits_event=1, visits_ever=12, streak_days=2),
    "event": EventView("evt_1", "Gala", ("jazz", "late"), doors_open_ms=0),
    "scan": ScanView("gate_1", "entry", "dev_1"),
    "points": PointsView(100, "points"),
    "tier": TierView("silver", "gold"),
    "coupon": CouponView("free_drink"),
    "top_up": TopUpView(1_500_000),
    "streak": StreakView(7),
}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def moment(trigger: Trigger = "checkin", at: str = TUESDAY, /, **changes: Any) -> Moment:
    """A moment with all views; `card={"tier": "silver"}` changes a view's fields, other names are the moment's own."""
    views = {
        name: msgspec.structs.replace(view, **changes.pop(name)) if name in changes else view
        for name, view in VIEWS.items()
    }
    at_ms = ms(at)
    return Moment(trigger=trigger, at_ms=at_ms, now=local_time(at_ms, ZONE), **{**views, **changes})


def rule(rule_id: str, when: str = "true", *then: Action, **changes: Any) -> RuleDefinition:
    """An active rule on check-ins that awards 10 points, unless said otherwise."""
    fields: dict[str, Any] = {"version": 1, "name": rule_id, "on": "checkin", "state": "active", **changes}
    return RuleDefinition(rule_id=rule_id, when=when, then=then or (AwardPoints(10),), **fields)
