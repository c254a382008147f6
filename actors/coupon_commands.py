"""Commands about coupons; the rules are those of `actors.commands`."""

from __future__ import annotations

import msgspec

from actors.coupon_terms import CouponState, CouponTerms, CouponValue, NewCode, Stacking
from actors.terms import Tier


class DefineCoupon(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """`shared_code_id` is the digest of the terms' shared code, "" without one."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    coupon_id: str
    terms: CouponTerms
    shared_code_id: str = ""


class ChangeCoupon(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """None leaves a field as it is. What was redeemed or issued before stays as it was; a limit below what is used up
    ends further uses."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    coupon_id: str
    name: str | None = None
    value: CouponValue | None = None
    state: CouponState | None = None
    tiers: tuple[Tier, ...] | None = None
    starts_ms: int | None = None
    ends_ms: int | None = None
    valid_days: int | None = None
    uses_max: int | None = None
    uses_per_card_max: int | None = None
    uses_per_day_max: int | None = None
    stacking: Stacking | None = None
    group: str | None = None
    if_version: tuple[str, ...] | None = None


class IssueCoupons(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """Issues codes (at most `CODES_PER_COMMAND_MAX`). The edge derives them from the request id, so they are the same
    at every try."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    coupon_id: str
    codes: tuple[NewCode, ...]


class RedeemCoupon(msgspec.Struct, frozen=True, array_like=True, tag=43, gc=False):
    """Redeems a code for a card, or holds it until `hold_until_ms` (0 = redeems at once). `bill` is the till's own name
    for the transaction, "" for none."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    redemption_id: str
    code_id: str
    card_id: str
    bill: str = ""
    hold_until_ms: int = 0


class CaptureCoupon(msgspec.Struct, frozen=True, array_like=True, tag=44, gc=False):
    """A hold becomes a redemption."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    redemption_id: str


class ReleaseCoupon(msgspec.Struct, frozen=True, array_like=True, tag=45, gc=False):
    """A hold ends without a redemption."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    redemption_id: str


class RollbackCoupon(msgspec.Struct, frozen=True, array_like=True, tag=46, gc=False):
    """A redemption is taken back, once: its code, its place within the limits, the points that it gave."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    redemption_id: str
    note: str = ""


CouponCommand = (
    DefineCoupon | ChangeCoupon | IssueCoupons | RedeemCoupon | CaptureCoupon | ReleaseCoupon | RollbackCoupon
)
