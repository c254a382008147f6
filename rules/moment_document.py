"""Moments that somebody makes up, as JSON documents: what a draft would do if this happened.

Rules:
1. A document has `at` and the variables of expressions (`rules.environment`) by their names; what is left out has its
   default. It has no others than the rule's trigger has.
2. What is wrong is told with a JSON pointer, the first of it.
3. Values keep the bounds of `rules.limits`, so a moment made here is as good as any.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from rules.document import DocumentError
from rules.environment import fields_of
from rules.language import Trigger
from rules.limits import ATTRIBUTE_CHARS_MAX, ATTRIBUTE_VALUES_MAX, INTEGER_MAX, TAGS_PER_EVENT_MAX, TEXT_CHARS_MAX
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

_Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
_Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
_Positive = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
_Integer = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
_Scalar = _Integer | float | bool | Annotated[str, Meta(max_length=ATTRIBUTE_CHARS_MAX)] | None
_Attributes = Annotated[
    dict[_Text, _Scalar | Annotated[list[_Scalar], Meta(max_length=ATTRIBUTE_VALUES_MAX)]],
    Meta(max_length=ATTRIBUTE_VALUES_MAX),
]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_MAX: Final = 9_998  # a day has to have an end, in every time zone


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all of them have in common."""


class _Card(_Document, frozen=True):
    id: _Text = "card"
    tier: _Text = "bronze"
    points: _Integer = 0
    earned: _Integer = 0
    wallet: _Count = 0
    issued_days: _Count = 0


class _Member(_Document, frozen=True):
    id: _Text = ""
    birthday: Annotated[int, Meta(ge=0, le=1231)] = 0
    birth_year: Annotated[int, Meta(ge=0, le=9999)] = 0
    attributes: _Attributes = {}


class _Event(_Document, frozen=True):
    id: _Text = "event"
    name: _Text = ""
    tags: Annotated[tuple[_Text, ...], Meta(max_length=TAGS_PER_EVENT_MAX)] = ()
    doors_open_ms: _Count = 0


class _Scan(_Document, frozen=True):
    gate_id: _Text = ""
    device_id: _Text = ""
    offline: bool = False


class _Counts(_Document, frozen=True):
    visits_today: _Count = 1
    visits_week: _Count = 1
    visits_event: _Count = 1
    visits_ever: _Count = 1
    streak_days: _Count = 1


class _Points(_Document, frozen=True):
    amount: _Positive = 1
    account: Literal["points", "wallet"] = "points"


class _Tier(_Document, frozen=True, rename={"before": "from", "after": "to"}):
    before: _Text = "bronze"
    after: _Text = "silver"


class _Coupon(_Document, frozen=True):
    id: _Text = "coupon"
    kind: Literal["points", "percent", "amount", "item"] = "item"
    amount: _Count = 0
    bill: _Text = ""


class _TopUp(_Document, frozen=True):
    amount: _Positive = 1


class _Streak(_Document, frozen=True):
    days: _Positive = 1


class _MomentDocument(_Document, frozen=True):
    """`awarded` is what the moment was awarded before any rule."""

    at: Annotated[datetime, Meta(tz=True)]
    awarded: _Count = 0
    card: _Card = _Card()
    member: _Member = _Member()
    counts: _Counts = _Counts()
    event: _Event | None = None
    scan: _Scan | None = None
    points: _Points | None = None
    tier: _Tier | None = None
    coupon: _Coupon | None = None
    top_up: _TopUp | None = None
    streak: _Streak | None = None


# Variables that some triggers only have.
_OF_TRIGGERS: Final = ("event", "scan", "points", "tier", "coupon", "top_up", "streak")


def moment_of(document: Any, trigger: Trigger, time_zone: str) -> Moment | DocumentError:
    """The moment that a document describes, for rules on `trigger`, on the clocks of `time_zone`."""
    try:
        told = msgspec.convert(document, _MomentDocument)
    except msgspec.ValidationError as error:
        return _error_of(error)
    at_ms = (told.at - _EPOCH) // timedelta(milliseconds=1)
    if at_ms <= 0 or told.at.year > _YEAR_MAX:
        return DocumentError("/at", f"The time must be after 1970, and not after {_YEAR_MAX}.")
    has = fields_of(trigger)
    for name in _OF_TRIGGERS:
        if getattr(told, name) is not None and name not in has:
            return DocumentError(f"/{name}", f"Rules on {trigger} have no {name}.")
    return _made(told, trigger, at_ms, time_zone)


def _made(told: _MomentDocument, trigger: Trigger, at_ms: int, time_zone: str) -> Moment:
    has = fields_of(trigger)
    card, member, counts = told.card, told.member, told.counts
    event, scan = told.event or _Event(), told.scan or _Scan()
    points, tier, coupon = told.points or _Points(), told.tier or _Tier(), told.coupon or _Coupon()
    is_exit = trigger == "exit"
    return Moment(
        trigger,
        at_ms,
        local_time(at_ms, time_zone),
        CardView(card.id, card.tier, card.points, card.earned, card.wallet, card.issued_days),
        MemberView(member.id, member.birthday, member.attributes, member.birth_year),
        CountsView(
            counts.visits_today, counts.visits_week, counts.visits_event, counts.visits_ever, counts.streak_days
        ),
        EventView(event.id, event.name, event.tags, event.doors_open_ms) if "event" in has else None,
        ScanView(scan.gate_id, "exit" if is_exit else "entry", scan.device_id, scan.offline) if "scan" in has else None,
        PointsView(points.amount, points.account) if "points" in has else None,
        TierView(tier.before, tier.after) if "tier" in has else None,
        CouponView(coupon.id, coupon.kind, coupon.amount, coupon.bill) if "coupon" in has else None,
        TopUpView((told.top_up or _TopUp()).amount) if "top_up" in has else None,
        StreakView((told.streak or _Streak()).days) if "streak" in has else None,
        base_points=told.awarded,
    )


def _error_of(error: msgspec.ValidationError) -> DocumentError:
    """msgspec tells the place at the end: "… - at `$.card.points`"; "[...]" is the value of any key."""
    message, _, place = str(error).partition(" - at `")
    path = place.removeprefix("key` in `").strip("`").removeprefix("$").partition("[...]")[0]
    return DocumentError(path.replace("[", ".").replace("]", "").replace(".", "/"), message)
