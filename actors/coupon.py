"""The virtual actors of coupons: Coupon, Code, CouponUse (a card's uses of a coupon), Bill and Redemption.

Rules:
1. State changes only in `apply`; counts come from the fact. A fact at or before `position` changes nothing.
2. Nothing grows without bound: a coupon knows its counts and its open holds (`HOLDS_PER_COUPON_MAX`), a bill its
   coupons in force (`COUPONS_PER_BILL_MAX`); what a card has used is an actor of its own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.coupon_facts import (
    BillBegan,
    CodeGranted,
    CodeIssued,
    CodesIssued,
    CodeWithdrawn,
    CouponChanged,
    CouponDefined,
    CouponRedeemed,
    CouponUseBegan,
    RedemptionChanged,
    bill_id_of,
    use_id_of,
)
from actors.coupon_terms import (
    BillCoupon,
    CodeState,
    CouponCounts,
    CouponTerms,
    CouponValue,
    Hold,
    RedemptionState,
    Stacking,
)
from actors.rule_facts import RuleUnits

_CODE_STATES: dict[RedemptionState, CodeState] = {"on_hold": "on_hold", "redeemed": "redeemed"}


class Coupon(msgspec.Struct, gc=False):
    """A coupon's terms, counts and open holds by redemption."""

    tenant_id: str
    coupon_id: str
    terms: CouponTerms
    counts: CouponCounts = CouponCounts()
    holds: dict[str, Hold] = msgspec.field(default_factory=dict)
    position: int = 0

    @classmethod
    def defined(cls, fact: CouponDefined, position: int) -> Coupon:
        """The coupon as it is when just defined."""
        return cls(fact.tenant_id, fact.coupon_id, fact.terms, position=position)

    def apply(
        self,
        fact: CouponChanged | CodesIssued | CodeGranted | CodeWithdrawn | CouponRedeemed | RedemptionChanged,
        position: int,
    ) -> None:
        """Takes in a fact about this coupon."""
        if position <= self.position:
            return
        self.position = position
        if isinstance(fact, CouponChanged):
            self.terms = fact.terms
            return
        self.counts = fact.counts
        if isinstance(fact, CodesIssued | CodeGranted | CodeWithdrawn):
            return
        if fact.state == "on_hold":
            self.holds[fact.redemption_id] = Hold(fact.hold_until_ms, fact.code_id, fact.card_id, fact.bill)
        else:
            self.holds.pop(fact.redemption_id, None)
        assert len(self.holds) == self.counts.on_hold, "holds are counted"


class Code(msgspec.Struct, gc=False):
    """An issued code; `redemption_id` is the redemption that has it now. One that a rule granted has no text, and so no
    `tail`; the cause for which it was is its `issue_id`."""

    tenant_id: str
    code_id: str
    coupon_id: str
    card_id: str
    tail: str
    issue_id: str
    number: int
    issued_at_ms: int
    expires_at_ms: int
    is_shared: bool
    state: CodeState = "issued"
    redemption_id: str = ""
    position: int = 0

    @classmethod
    def issued(cls, fact: CodeIssued, position: int) -> Code:
        """The code as it is when just issued."""
        return cls(
            fact.tenant_id,
            fact.code_id,
            fact.coupon_id,
            fact.card_id,
            fact.tail,
            fact.issue_id,
            fact.number,
            fact.at_ms,
            fact.expires_at_ms,
            fact.is_shared,
            position=position,
        )

    @classmethod
    def granted(cls, fact: CodeGranted, position: int) -> Code:
        """The code as it is when just granted."""
        return cls(
            *(fact.tenant_id, fact.code_id, fact.coupon_id, fact.card_id, "", fact.cause, fact.number, fact.at_ms),
            *(fact.expires_at_ms, False),
            position=position,
        )

    def apply(self, fact: CouponRedeemed | RedemptionChanged | CodeWithdrawn, position: int) -> None:
        """Takes in a fact about this code."""
        if position <= self.position:
            return
        self.position = position
        if isinstance(fact, CodeWithdrawn):
            self.state, self.redemption_id = "withdrawn", ""
            return
        self.state = code_state(fact.state)
        self.redemption_id = fact.redemption_id if self.state != "issued" else ""


class CouponUse(msgspec.Struct, gc=False):
    """How often a card has used a coupon; what is on hold counts."""

    tenant_id: str
    coupon_id: str
    card_id: str
    uses: int = 0
    position: int = 0

    @property
    def coupon_use_id(self) -> str:
        """See `actors.coupon_facts.use_id_of`."""
        return use_id_of(self.coupon_id, self.card_id)

    @classmethod
    def began(cls, fact: CouponUseBegan, position: int) -> CouponUse:
        """Before the first use."""
        return cls(fact.tenant_id, fact.coupon_id, fact.card_id, position=position)

    def apply(self, fact: CouponRedeemed | RedemptionChanged, position: int) -> None:
        """Takes in a fact about this card's uses."""
        if position > self.position:
            self.position = position
            self.uses = fact.card_uses


class Bill(msgspec.Struct, gc=False):
    """The coupons on a bill, by redemption. A hold that has lapsed is passed over by its time."""

    tenant_id: str
    bill: str
    coupons: dict[str, BillCoupon] = msgspec.field(default_factory=dict)
    position: int = 0

    @property
    def bill_id(self) -> str:
        """See `actors.coupon_facts.bill_id_of`."""
        return bill_id_of(self.tenant_id, self.bill)

    @classmethod
    def began(cls, fact: BillBegan, position: int) -> Bill:
        """Before its first coupon."""
        return cls(fact.tenant_id, fact.bill, position=position)

    def apply(self, fact: CouponRedeemed | RedemptionChanged, position: int) -> None:
        """Takes in a fact about a coupon on this bill."""
        if position <= self.position:
            return
        self.position = position
        if fact.state in _CODE_STATES:
            self.coupons[fact.redemption_id] = BillCoupon(fact.stacking, fact.group, fact.hold_until_ms)
        else:
            self.coupons.pop(fact.redemption_id, None)

    def in_force(self, at_ms: int) -> list[BillCoupon]:
        """The coupons without those whose hold has lapsed."""
        return [one for one in self.coupons.values() if not 0 < one.hold_until_ms <= at_ms]


class Redemption(msgspec.Struct, gc=False):
    """A redemption from its hold on; `began_at_ms` is when it was asked for, `changed_at_ms` when its state changed."""

    tenant_id: str
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
    points_seq: int
    began_at_ms: int
    changed_at_ms: int
    rules: tuple[RuleUnits, ...] = ()
    rules_seq: int = 0
    position: int = 0

    @classmethod
    def made(cls, fact: CouponRedeemed, position: int) -> Redemption:
        """The redemption as it is at first."""
        redemption = cls(*told(fact, fact.at_ms))
        redemption.position = position
        return redemption

    def apply(self, fact: RedemptionChanged, position: int) -> None:
        """Takes in what became of it."""
        if position <= self.position:
            return
        self.position = position
        self.state = fact.state
        self.hold_until_ms = fact.hold_until_ms
        self.points_seq = fact.points_seq
        self.rules, self.rules_seq = fact.rules, fact.rules_seq
        self.changed_at_ms = fact.at_ms


def told(fact: CouponRedeemed | RedemptionChanged, began_at_ms: int) -> tuple[Any, ...]:
    """What a fact tells of its redemption, in the order of the actor's fields, but for the position."""
    return (
        *(fact.tenant_id, fact.redemption_id, fact.coupon_id, fact.code_id, fact.card_id, fact.bill, fact.state),
        *(fact.hold_until_ms, fact.day, fact.value, fact.stacking, fact.group, fact.points_seq),
        *(began_at_ms, fact.at_ms, fact.rules, fact.rules_seq),
    )


def code_state(state: RedemptionState) -> CodeState:
    """What a redemption's state makes of its code."""
    return _CODE_STATES.get(state, "issued")
