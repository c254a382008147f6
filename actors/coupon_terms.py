"""The value types of coupons: what one is worth, what holds for it, how often it was used, what an issued code is.

Rules are those of `actors.terms`: everything here ends up in the journal, so fields are only ever added at the end.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from actors.terms import Tier

CouponState = Literal["draft", "active", "paused", "ended"]
Stacking = Literal["alone", "with_others"]
CodeState = Literal["issued", "on_hold", "redeemed", "withdrawn"]
RedemptionState = Literal["on_hold", "redeemed", "released", "lapsed", "rolled_back"]

# Codes in one request; a campaign takes as many requests as it needs, up to this many codes in all.
CODES_PER_COMMAND_MAX = 1_000
CODES_PER_COUPON_MAX = 10_000_000
# Redemptions of one coupon that wait for their till at a time; they are all in the coupon's memory.
HOLDS_PER_COUPON_MAX = 1_000
HOLD_MS_MAX = 24 * 3_600_000
COUPONS_PER_BILL_MAX = 20
USES_MAX = 1_000_000_000
VALID_DAYS_MAX = 3_660
DAY_MS = 86_400_000


class PointsValue(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """So many points, awarded to the card when the coupon is redeemed; they do not expire."""

    points: int


class PercentValue(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """1 to 100 percent off the bill, at most `cap_vnd` (0 = no cap). The till works it out."""

    percent: int
    cap_vnd: int = 0


class AmountValue(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """So many dong off the bill."""

    vnd: int


class ItemValue(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Something to be handed out, in words."""

    text: str


CouponValue = PointsValue | PercentValue | AmountValue | ItemValue


class CouponTerms(msgspec.Struct, frozen=True, array_like=True):
    """What holds for a coupon. Limits of 0 are none; `tiers` empty is anybody; times are milliseconds since 1970, 0 =
    no bound. An issued code is good for `valid_days` times 24 hours after its issue (0 = as long as the coupon).

    On one bill a coupon that stands `alone` tolerates no other; those `with_others` go together within one `group`.
    `shared_code` is one text for everybody, "" where every code is issued by itself.
    """

    name: str
    value: CouponValue
    state: CouponState = "active"
    tiers: tuple[Tier, ...] = ()
    starts_ms: int = 0
    ends_ms: int = 0
    valid_days: int = 0
    uses_max: int = 0
    uses_per_card_max: int = 0
    uses_per_day_max: int = 0
    stacking: Stacking = "alone"
    group: str = ""
    shared_code: str = ""


class CouponCounts(msgspec.Struct, frozen=True, array_like=True):
    """Codes issued (but for those withdrawn), redemptions in force and on hold. `day_uses` are those (on hold, too)
    that were begun on `day` (yyyymmdd, the tenant's time zone), the last day on which one was begun; 0 before any."""

    issued: int = 0
    redeemed: int = 0
    on_hold: int = 0
    day: int = 0
    day_uses: int = 0

    @property
    def uses(self) -> int:
        """What counts against the limit in all."""
        return self.redeemed + self.on_hold


class NewCode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A code to be issued: the digest of its text, the last characters of it, the only card that may use it ("" = any
    card)."""

    code_id: str
    tail: str
    card_id: str = ""


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open hold, with what its end will change."""

    until_ms: int
    code_id: str
    card_id: str
    bill: str


class BillCoupon(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A coupon that was redeemed, or is held until `hold_until_ms`, on a bill."""

    stacking: Stacking
    group: str
    hold_until_ms: int
