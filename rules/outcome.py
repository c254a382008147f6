"""What the rules make of a moment: effects, what could not be computed, what was held back, and the units to count."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from rules.conditions import FailureReason

WithheldReason = Literal["card_limit_reached", "card_day_limit_reached", "budget_used_up", "outdone"]


class PointsAwarded(msgspec.Struct, frozen=True, tag="award_points"):
    """Award `amount` points (≥ 1) to the card. `expires_after_days`: 0 as the tenant has it; `pending_days`: 0 at
    once."""

    rule_id: str
    version: int
    amount: int
    expires_after_days: int = 0
    pending_days: int = 0


class CouponGranted(msgspec.Struct, frozen=True, tag="grant_coupon"):
    """Issue this coupon to the card."""

    rule_id: str
    version: int
    coupon_id: str


class TierSet(msgspec.Struct, frozen=True, tag="set_tier"):
    """Give the card this tier (another than the moment's)."""

    rule_id: str
    version: int
    tier: str


class HolderNotified(msgspec.Struct, frozen=True, tag="notify"):
    """Tell the card's holder, by template, text or both."""

    rule_id: str
    version: int
    template: str
    text: str


class WebhookCalled(msgspec.Struct, frozen=True, tag="call_webhook"):
    """Tell the receiver of this name."""

    rule_id: str
    version: int
    name: str


Effect: TypeAlias = PointsAwarded | CouponGranted | TierSet | HolderNotified | WebhookCalled


class Failure(msgspec.Struct, frozen=True):
    """A rule that could not be computed and was skipped. `where` is "when", or "then/0" and so on for its actions."""

    rule_id: str
    version: int
    where: str
    reason: FailureReason


class Withheld(msgspec.Struct, frozen=True):
    """A rule whose condition was true and that did not apply all the same: a limit left no room for it, or another of
    its group gave more."""

    rule_id: str
    version: int
    reason: WithheldReason


class Uses(msgspec.Struct, frozen=True, gc=False):
    """What a rule has used so far, over all of its versions: times for this card in all and on the moment's local day,
    points for everybody. Annulled causes have been taken off."""

    card: int = 0
    card_day: int = 0
    points: int = 0


class UnitsUsed(msgspec.Struct, frozen=True):
    """What a rule that applied has used: one time for this card on `date` (yyyymmdd), and `points`. To be added to its
    `Uses`, and taken off again if the moment's cause is annulled."""

    rule_id: str
    version: int
    date: int
    points: int


class Outcome(msgspec.Struct, frozen=True):
    """`effects` in the order in which the rules applied. `depth_reached`: there are rules for this trigger, and none
    was looked at, because the moment lies too deep in a chain of effects."""

    effects: tuple[Effect, ...] = ()
    failures: tuple[Failure, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    used: tuple[UnitsUsed, ...] = ()
    depth_reached: bool = False


NOTHING = Outcome()
