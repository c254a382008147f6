"""What a rule is: "if this, then that" as data, journaled as it stands here.

Fields are only ever added at the end, with a default; tags of actions are never used again for something else.

Rules:
1. A rule is looked at when its trigger comes (`on`), while it is active, from `valid_from_ms` until before
   `valid_until_ms` (0: no bound).
2. Rules are looked at in the order of their priority, the highest first, then of their ids.
3. A rule applies if its condition (`when`) is true, what it would give can be computed, at least one of its actions
   gives something, and its limits leave room for all of it. It never applies in part.
4. Stacking says what else may apply at the same moment. `all`: whatever does. `stop`: what went before, nothing after
   it. `best`: of the rules of one `group` only the one that gives the most points applies (of equals the first). The
   group takes part at the place of its first rule: all its rules are judged there, on what was awarded before it.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

Trigger = Literal[
    "checkin",
    "exit",
    "points_earned",
    "points_spent",
    "tier_changed",
    "card_issued",
    "coupon_used",
    "top_up",
    "streak_reached",
    "birthday",
    "schedule",
]
State = Literal["draft", "active", "paused"]
Stacking = Literal["all", "best", "stop"]

TRIGGERS: Final[tuple[Trigger, ...]] = get_args(Trigger)
STATES: Final[tuple[State, ...]] = get_args(State)
STACKINGS: Final[tuple[Stacking, ...]] = get_args(Stacking)


class AwardPoints(msgspec.Struct, frozen=True, array_like=True, tag="award_points"):
    """Award `points`, or what the CEL expression `amount` says if that is not empty (0 awards nothing). The award
    expires `expires_after_days` after it was made, and is pending for `pending_days` (0: as the tenant has it, not at
    all)."""

    points: int = 0
    amount: str = ""
    expires_after_days: int = 0
    pending_days: int = 0


class Multiply(msgspec.Struct, frozen=True, array_like=True, tag="multiply"):
    """Make what this moment has been awarded by rules before this one (and by `base_points` of the moment)
    `factor_thousandths` / 1000 times as much: awards the difference. The product is rounded down to whole points."""

    factor_thousandths: int


class GrantCoupon(msgspec.Struct, frozen=True, array_like=True, tag="grant_coupon"):
    """Issue the coupon to the card."""

    coupon_id: str


class SetTier(msgspec.Struct, frozen=True, array_like=True, tag="set_tier"):
    """Give the card this tier, up or down."""

    tier: str


class Notify(msgspec.Struct, frozen=True, array_like=True, tag="notify"):
    """Tell the card's holder: by a message template of the tenant, by `text`, or by the template with the text in
    it."""

    template: str = ""
    text: str = ""


class CallWebhook(msgspec.Struct, frozen=True, array_like=True, tag="call_webhook"):
    """Tell a receiver that the tenant has registered under this name."""

    name: str


Action: TypeAlias = AwardPoints | Multiply | GrantCoupon | SetTier | Notify | CallWebhook


class Limits(msgspec.Struct, frozen=True, array_like=True):
    """How often a rule applies to one card, in all and on one local day, and how many points it gives in all, to
    everybody together. 0: no limit. Counted by rule id, whatever its version."""

    per_card: int = 0
    per_card_per_day: int = 0
    points_budget: int = 0


class Schedule(msgspec.Struct, frozen=True, array_like=True):
    """When a rule of trigger `schedule` comes: at `minute` of the local day (0 … 1439), on these ISO weekdays (1 =
    Monday) or on these days of the month; with neither, every day. See `actors.schedule` for months and clocks that
    lack such a time."""

    minute: int
    weekdays: tuple[int, ...] = ()
    days_of_month: tuple[int, ...] = ()


class RuleDefinition(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One version of a rule. `version` grows with each change, so that an effect cites the very text that caused it.
    `when` is a CEL expression; `schedule` is there for the trigger of that name, `group` for stacking `best`."""

    rule_id: str
    version: int
    name: str
    on: Trigger
    when: str
    then: tuple[Action, ...]
    limits: Limits = Limits()
    priority: int = 0
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    state: State = "draft"
    stacking: Stacking = "all"
    schedule: Schedule | None = None
    group: str = ""
