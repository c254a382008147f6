"""The moment that rules look at: what happened, to whom, when and where.

Rules:
1. A moment holds values, no clock and no look-up: the same moment gives the same outcome for ever.
2. Numbers lie within ±`INTEGER_MAX`, texts and lists within the bounds of `rules.limits`; whoever makes a moment keeps
   them.
3. A moment of a trigger has the views that `rules.environment` promises for that trigger; the others are None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rules.language import Trigger
from rules.schedule import LocalTime


class CardView(msgspec.Struct, frozen=True, gc=False):
    """The card before this moment's effects: points that can be spent, points ever earned, wallet in the currency's
    smallest unit, whole days since it was issued."""

    card_id: str
    tier: str
    points: int = 0
    earned: int = 0
    wallet: int = 0
    issued_days: int = 0


class MemberView(msgspec.Struct, frozen=True):
    """Who holds the card; `member_id` is empty where nobody is known. `birthday` is month * 100 + day, `birth_year`
    its year, 0 if unknown. `attributes` are the tenant's own: JSON values by name."""

    member_id: str = ""
    birthday: int = 0
    attributes: Mapping[str, Any] = {}
    birth_year: int = 0


class EventView(msgspec.Struct, frozen=True):
    """The event whose door was passed. `doors_open_ms` is in milliseconds since 1970, 0 if there is no such time."""

    event_id: str
    name: str
    tags: tuple[str, ...] = ()
    doors_open_ms: int = 0


class ScanView(msgspec.Struct, frozen=True, gc=False):
    """How the door was passed. `direction` is "entry" or "exit"."""

    gate_id: str
    direction: str
    device_id: str
    offline: bool = False


class CountsView(msgspec.Struct, frozen=True, gc=False):
    """This card's visits (admitted entries) by local day, local week from Monday, event and in all, and the days in a
    row with a visit; all with this moment's own included."""

    visits_today: int = 0
    visits_week: int = 0
    visits_event: int = 0
    visits_ever: int = 0
    streak_days: int = 0


class PointsView(msgspec.Struct, frozen=True, gc=False):
    """What was earned or spent (≥ 1), on which account: "points" or "wallet"."""

    amount: int
    account: str = "points"


class TierView(msgspec.Struct, frozen=True, gc=False):
    """The tier that the card had (`before`), and the one that it has now (`after`)."""

    before: str
    after: str


class CouponView(msgspec.Struct, frozen=True, gc=False):
    """The coupon that was used. `kind` is "points", "percent", "amount" (money off) or "item", and `amount` how many
    points, percent or dong it was worth, 0 for an item; `bill` is the till's name for its bill, "" for none."""

    coupon_id: str
    kind: str = "item"
    amount: int = 0
    bill: str = ""


class TopUpView(msgspec.Struct, frozen=True, gc=False):
    """What was paid into the wallet, in the currency's smallest unit (≥ 1)."""

    amount: int


class StreakView(msgspec.Struct, frozen=True, gc=False):
    """How many days in a row the streak has reached."""

    days: int


class Moment(msgspec.Struct, frozen=True):
    """Something that happened to a card. `now` is `local_time(at_ms, …)` in the event's or tenant's time zone.

    `base_points` were awarded for this moment outside of the rules here; `Multiply` counts them in. `depth` is 0 for
    what a request caused, and one more than its cause's for what an effect of a rule caused. `due` are the rules that
    came, of those that are scheduled; all, if it is empty.
    """

    trigger: Trigger
    at_ms: int
    now: LocalTime
    card: CardView
    member: MemberView = MemberView()
    counts: CountsView = CountsView()
    event: EventView | None = None
    scan: ScanView | None = None
    points: PointsView | None = None
    tier: TierView | None = None
    coupon: CouponView | None = None
    top_up: TopUpView | None = None
    streak: StreakView | None = None
    base_points: int = 0
    depth: int = 0
    due: tuple[str, ...] = ()
