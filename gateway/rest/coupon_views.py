"""Coupons as clients write and see them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from actors.coupon_facts import CouponRedeemed, RedemptionChanged
from actors.coupon_terms import (
    USES_MAX,
    VALID_DAYS_MAX,
    AmountValue,
    CouponCounts,
    CouponTerms,
    CouponValue,
    ItemValue,
    PercentValue,
    PointsValue,
)
from actors.replies import RedemptionView as EngineView
from actors.terms import POINTS_PER_ENTRY_MAX, Tier
from gateway import limits
from gateway.coupon_codes import SHARED_PATTERN
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import Body, Name, Time, View, ms
from storage.coupon_lists import RedemptionRow

State = Literal["draft", "active", "paused", "ended"]
Vnd = Annotated[int, Field(ge=0, le=limits.SAFE_INTEGER_MAX)]
Uses = Annotated[int, Field(ge=0, le=USES_MAX)]
SharedCode = Annotated[str, StringConstraints(pattern=SHARED_PATTERN)]
Group = Annotated[str, Field(max_length=limits.ID_CHARS_MAX, pattern=r"^[A-Za-z0-9_.-]*$")]
Tiers = Annotated[list[Tier], Field(max_length=5)]


_NEEDED = {"points": "points", "percent": "percent", "amount": "vnd", "item": "text"}


class Value(Body):
    """What it is worth: `points` for the card; `percent` off the bill, at most `cap_vnd`; an `amount` of `vnd` off the
    bill; an `item` to be handed out, in words (`text`)."""

    type: Literal["points", "percent", "amount", "item"]
    points: Annotated[int, Field(ge=1, le=POINTS_PER_ENTRY_MAX)] | None = None
    percent: Annotated[int, Field(ge=1, le=100)] | None = None
    cap_vnd: Vnd | None = None
    vnd: Annotated[int, Field(ge=1, le=limits.SAFE_INTEGER_MAX)] | None = None
    text: Name | None = None

    @model_validator(mode="after")
    def _of_its_type(self) -> Value:
        needed = _NEEDED[self.type]
        allowed = {needed, "cap_vnd"} if self.type == "percent" else {needed}
        given = {name for name in ("points", "percent", "cap_vnd", "vnd", "text") if getattr(self, name) is not None}
        if needed not in given or not given <= allowed:
            raise PydanticCustomError(
                "value_fields",
                "the fields of {type} are {fields}",
                {"type": self.type, "fields": ", ".join(sorted(allowed))},
            )
        return self

    def engines(self) -> CouponValue:
        """As the engine has it."""
        if self.points is not None:
            return PointsValue(self.points)
        if self.percent is not None:
            return PercentValue(self.percent, self.cap_vnd or 0)
        return AmountValue(self.vnd) if self.vnd is not None else ItemValue(self.text or "")


class NewCoupon(Body):
    """Limits of 0 are none; without `tiers` it is for everybody. A code is good for `valid_days` times 24 hours after
    its issue. On one bill a coupon that stands `alone` tolerates no other; those `with_others` go together with the
    same `group`."""

    name: Name
    value: Value
    state: Literal["draft", "active"] = "active"
    tiers: Annotated[Tiers, Field(default_factory=list)]
    valid_from: Time | None = None
    valid_until: Time | None = None
    valid_days: Annotated[int, Field(ge=0, le=VALID_DAYS_MAX)] = 0
    limit_in_all: Uses = 0
    limit_per_card: Uses = 0
    limit_per_day: Uses = 0
    stacking: Literal["alone", "with_others"] = "alone"
    group: Group = ""
    shared_code: SharedCode | None = None

    def terms(self) -> CouponTerms:
        """As the engine has it."""
        return CouponTerms(
            self.name,
            self.value.engines(),
            self.state,
            tuple(self.tiers),
            ms(self.valid_from),
            ms(self.valid_until),
            self.valid_days,
            self.limit_in_all,
            self.limit_per_card,
            self.limit_per_day,
            self.stacking,
            self.group,
            (self.shared_code or "").upper(),
        )


class CouponChange(Body):
    """What is left out stays as it is; a time that is null is no bound any more. What was redeemed before stays; a
    limit below what is used ends further uses."""

    name: Name | None = None
    value: Value | None = None
    state: State | None = None
    tiers: Tiers | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None
    valid_days: Annotated[int, Field(ge=0, le=VALID_DAYS_MAX)] | None = None
    limit_in_all: Uses | None = None
    limit_per_card: Uses | None = None
    limit_per_day: Uses | None = None
    stacking: Literal["alone", "with_others"] | None = None
    group: Group | None = None


class CouponView(View):
    """A coupon. `issued` codes so far, `redeemed` in force, `on_hold` now."""

    id: str
    name: str
    value: dict[str, object]
    state: str
    tiers: list[str]
    valid_from: str | None
    valid_until: str | None
    valid_days: int
    limit_in_all: int
    limit_per_card: int
    limit_per_day: int
    stacking: str
    group: str
    shared_code: str | None
    issued: int
    redeemed: int
    on_hold: int


class RedemptionView(View):
    """A redemption: `on_hold` until `hold_until`, `redeemed`, `released`, `lapsed` or `rolled_back`, since `at`."""

    id: str
    coupon_id: str
    card_id: str
    bill_id: str | None
    state: str
    hold_until: str | None
    value: dict[str, object]
    ledger_entry: int | None
    at: str


def value_view(value: CouponValue) -> dict[str, object]:
    """A value as clients see it."""
    match value:
        case PointsValue(points):
            return {"type": "points", "points": points}
        case PercentValue(percent, cap_vnd):
            return {"type": "percent", "percent": percent, "cap_vnd": cap_vnd}
        case AmountValue(vnd):
            return {"type": "amount", "vnd": vnd}
        case ItemValue(text):
            return {"type": "item", "text": text}


def coupon_view(coupon_id: str, terms: CouponTerms, counts: CouponCounts) -> CouponView:
    """A coupon as clients see it."""
    return CouponView(
        id=coupon_id,
        name=terms.name,
        value=value_view(terms.value),
        state=terms.state,
        tiers=list(terms.tiers),
        valid_from=rfc3339_or_none(terms.starts_ms),
        valid_until=rfc3339_or_none(terms.ends_ms),
        valid_days=terms.valid_days,
        limit_in_all=terms.uses_max,
        limit_per_card=terms.uses_per_card_max,
        limit_per_day=terms.uses_per_day_max,
        stacking=terms.stacking,
        group=terms.group,
        shared_code=terms.shared_code or None,
        issued=counts.issued,
        redeemed=counts.redeemed,
        on_hold=counts.on_hold,
    )


def redemption_view(
    fact: CouponRedeemed | RedemptionChanged | EngineView | RedemptionRow, now_ms: int = 0
) -> RedemptionView:
    """A redemption as clients see it. A hold whose end lies before `now_ms` has lapsed, posted or not."""
    is_lapsed = fact.state == "on_hold" and fact.hold_until_ms <= now_ms
    return RedemptionView(
        id=fact.redemption_id,
        coupon_id=fact.coupon_id,
        card_id=fact.card_id,
        bill_id=fact.bill or None,
        state="lapsed" if is_lapsed else fact.state,
        hold_until=rfc3339_or_none(fact.hold_until_ms),
        value=value_view(fact.value),
        ledger_entry=fact.points_seq or None,
        at=rfc3339(fact.hold_until_ms if is_lapsed else fact.at_ms),
    )
