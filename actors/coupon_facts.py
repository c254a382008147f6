"""Facts about coupons; the rules are those of `actors.facts`. `counts` are the coupon's after the fact.

What a card has used of a coupon, and what a bill has on it, are actors of their own that begin with the first use:
their ids are made of those of what they belong to.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from actors.coupon_terms import CouponCounts, CouponTerms, CouponValue, RedemptionState, Stacking
from actors.rule_facts import RuleUnits

GRANT_PREFIX = "grant_"
GRANT_DIGEST_BYTES = 13


def use_id_of(coupon_id: str, card_id: str) -> str:
    """The id of what a card has used of a coupon."""
    return f"{coupon_id}/{card_id}"


def bill_id_of(tenant_id: str, bill: str) -> str:
    """The id of a bill, "" where there is none. Tills of two tenants may use one name, or that of a tag."""
    return f"{tenant_id}/bill/{bill}" if bill else ""


def granted_code_id(tenant_id: str, card_id: str, cause: str, rule: tuple[str, int], number: int) -> str:
    """The id of what a rule (its id and version) granted to a card, as number `number` (from 0) of all that was granted
    for the cause: the same whenever that is decided. It is no code that can be typed, and no secret."""
    rule_id, version = rule
    parts = (tenant_id, card_id, cause, rule_id, str(version), str(number))
    return GRANT_PREFIX + blake2b("\0".join(parts).encode(), digest_size=GRANT_DIGEST_BYTES).hexdigest()


class CouponDefined(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """A coupon came to be."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    coupon_id: str
    terms: CouponTerms


class CouponChanged(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """A coupon's terms changed; the terms from now on."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    coupon_id: str
    terms: CouponTerms


class CodesIssued(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """So many codes were issued; each has a fact of its own after this one."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    coupon_id: str
    count: int
    counts: CouponCounts


class CodeIssued(msgspec.Struct, frozen=True, array_like=True, tag=43, gc=False):
    """A code came to be: number `number` (from 0) of those issued under request `issue_id`. `code_id` is a digest of
    its text, `tail` its last characters. For card `card_id` only, "" for any; good until before `expires_at_ms`, 0: as
    long as the coupon. A shared code is everybody's, any number of times."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    code_id: str
    coupon_id: str
    card_id: str
    tail: str
    issue_id: str
    number: int
    expires_at_ms: int = 0
    is_shared: bool = False


class CouponUseBegan(msgspec.Struct, frozen=True, array_like=True, tag=44, gc=False):
    """A card is about to use a coupon for the first time."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    coupon_id: str
    card_id: str

    @property
    def coupon_use_id(self) -> str:
        """See `use_id_of`."""
        return use_id_of(self.coupon_id, self.card_id)


class BillBegan(msgspec.Struct, frozen=True, array_like=True, tag=45, gc=False):
    """A bill is about to get its first coupon."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    bill: str

    @property
    def bill_id(self) -> str:
        """See `bill_id_of`."""
        return bill_id_of(self.tenant_id, self.bill)


class CouponRedeemed(msgspec.Struct, frozen=True, array_like=True, tag=46, gc=False):
    """A coupon was redeemed (`state` "redeemed"), or is on hold until `hold_until_ms`.

    `code_id` is "" for a shared code. `day` is the local day against which it counts; `card_uses` what the card has
    used of the coupon after it. `points_seq` is the ledger entry that awarded its points, `rules_seq` the first that a
    rule awarded for it, 0 without; `rules` is what rules used for it.
    """

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    redemption_id: str
    coupon_id: str
    code_id: str
    card_id: str
    bill: str
    state: RedemptionState
    hold_until_ms: int
    day: int
    value: CouponValue
    stacking: Stacking
    group: str
    counts: CouponCounts
    card_uses: int
    points_seq: int = 0
    rules: tuple[RuleUnits, ...] = ()
    rules_seq: int = 0

    @property
    def coupon_use_id(self) -> str:
        """See `use_id_of`."""
        return use_id_of(self.coupon_id, self.card_id)

    @property
    def bill_id(self) -> str:
        """See `bill_id_of`."""
        return bill_id_of(self.tenant_id, self.bill)


class RedemptionChanged(msgspec.Struct, frozen=True, array_like=True, tag=47, gc=False):
    """A redemption's hold was captured ("redeemed"), released or lapsed, or it was rolled back. Everything else is as
    `CouponRedeemed` told it; `began_at_ms` is the time of that."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    redemption_id: str
    coupon_id: str
    code_id: str
    card_id: str
    bill: str
    state: RedemptionState
    hold_until_ms: int
    day: int
    value: CouponValue
    stacking: Stacking
    group: str
    counts: CouponCounts
    card_uses: int
    points_seq: int
    began_at_ms: int
    note: str = ""
    rules: tuple[RuleUnits, ...] = ()
    rules_seq: int = 0

    @property
    def coupon_use_id(self) -> str:
        """See `use_id_of`."""
        return use_id_of(self.coupon_id, self.card_id)

    @property
    def bill_id(self) -> str:
        """See `bill_id_of`."""
        return bill_id_of(self.tenant_id, self.bill)


class CodeGranted(msgspec.Struct, frozen=True, array_like=True, tag=75, gc=False):
    """A rule granted a coupon: a code came to be that has no text (`granted_code_id`), for card `card_id` only, good
    until before `expires_at_ms`, 0: as long as the coupon. `number` is its place among what was granted for `cause`
    (`actors.rule_facts`)."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    code_id: str
    coupon_id: str
    card_id: str
    cause: str
    rule_id: str
    version: int
    number: int
    expires_at_ms: int
    counts: CouponCounts


class CodeWithdrawn(msgspec.Struct, frozen=True, array_like=True, tag=76, gc=False):
    """What a rule granted is no more, for the cause that it was granted for was annulled before it was used."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    code_id: str
    coupon_id: str
    card_id: str
    cause: str
    counts: CouponCounts


CouponFact = (
    CouponDefined
    | CouponChanged
    | CodesIssued
    | CodeIssued
    | CouponUseBegan
    | BillBegan
    | CouponRedeemed
    | RedemptionChanged
    | CodeGranted
    | CodeWithdrawn
)
