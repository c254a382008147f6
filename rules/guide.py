"""The language of rules, told to those who write them: data for the page of the documentation. Every example is checked
and run by the tests, so what it says is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rules.conditions import FailureReason
from rules.language import Stacking, Trigger
from rules.outcome import WithheldReason


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """An expression of a rule on `on`, and what it `gives` for a moment as POST /v1/rules:simulate takes it (`at` is
    left out where it does not matter)."""

    expression: str
    on: Trigger = "checkin"
    about: str
    moment: Mapping[str, Any] = {}
    gives: bool | int | FailureReason


class Sign(msgspec.Struct, frozen=True):
    """Operators or functions that belong together, and an expression that uses them."""

    signs: str
    about: str
    example: str


TRIGGERS: Final[Mapping[Trigger, str]] = {
    "checkin": "A card is let in: every entry that is admitted, also one that a scanner without a network tells later.",
    "exit": "A card leaves through a door.",
    "points_earned": "A card earned points: at once, however many rules gave some of them.",
    "points_spent": "Points or money of a card were spent.",
    "tier_changed": "A card has another tier, by points, by a person or by a rule. Reviews move no rules.",
    "card_issued": "A card was issued.",
    "coupon_used": "A coupon was redeemed; one that is on hold, when the hold is captured.",
    "top_up": "Money was paid into a card's wallet.",
    "streak_reached": "A visit made the card's streak of days longer.",
    "birthday": "The holder's birthday begins by the organisation's clocks; of 29 February on the 28th in other years.",
    "schedule": "The rule's own time of the day has come, for each active card that was issued by then.",
}
STACKING: Final[Mapping[Stacking, str]] = {
    "all": "Whatever else applies at the same moment applies, too.",
    "best": "Of the rules of one group only the one that gives the most points applies.",
    "stop": "What went before applies, nothing after it.",
}
SIGNS: Final[tuple[Sign, ...]] = (
    Sign("== != < <= > >=", "compare numbers with numbers and texts with texts", "card.points >= 100"),
    Sign("&& || !", "and, or, not", "card.tier == 'gold' && !(now.hour < 18)"),
    Sign("in", "whether a list has it", "card.tier in ['gold', 'platinum']"),
    Sign("+ - * / %", "whole numbers stay whole: 7 / 2 is 3", "counts.visits_ever % 10 == 0"),
    Sign("? :", "one of two values", "(card.tier == 'gold' ? 100 : 50) <= card.points"),
    Sign(
        "startsWith() endsWith() contains()",
        "what a text begins with, ends with or has in it",
        "card.tier.startsWith('g')",
    ),
    Sign("size()", "how many items a list has", "size(event.tags) > 0"),
    Sign("int() double()", "one kind of number from another", "double(card.points) * 1.5 > 100.0"),
    Sign("has()", "whether an attribute of the member is there", "has(member.attributes.city)"),
    Sign(
        "all() exists() exists_one() filter() map()",
        "about the items of a list",
        "event.tags.exists(tag, tag.startsWith('vip'))",
    ),
)
EXAMPLES: Final[tuple[Example, ...]] = (
    Example(
        expression="now.weekday == 2 && now.hour >= 18",
        about="Tuesdays from six in the evening, on the organisation's clocks.",
        moment={"at": "2026-05-19T18:10:00+07:00"},
        gives=True,
    ),
    Example(
        expression="counts.visits_week == 3",
        about="The third visit since Monday, and no other.",
        moment={"counts": {"visits_week": 3}},
        gives=True,
    ),
    Example(
        expression="counts.visits_ever % 10 == 0",
        about="Every tenth visit.",
        moment={"counts": {"visits_ever": 21}},
        gives=False,
    ),
    Example(
        expression="has(member.attributes.city) && member.attributes.city == 'Hue'",
        about="An attribute may be missing: ask first whether it is there.",
        moment={"member": {"attributes": {}}},
        gives=False,
    ),
    Example(
        expression="member.attributes.city == 'Hue'",
        about="Without asking, a missing attribute is a failure: the rule is skipped, and says so.",
        moment={"member": {"attributes": {}}},
        gives="key_missing",
    ),
    Example(
        expression="'jazz' in event.tags && !scan.offline",
        about="At the events of one kind, through doors with a network.",
        moment={"event": {"tags": ["jazz", "late"]}},
        gives=True,
    ),
    Example(
        expression="event.doors_open_ms > 0 && now.unix_ms - event.doors_open_ms < 1800000",
        about="In the first half hour after the doors opened.",
        moment={"at": "2026-05-19T18:10:00+07:00", "event": {"doors_open_ms": 1779188400000}},
        gives=True,
    ),
    Example(
        expression="tier.from == 'silver' && tier.to == 'gold'",
        on="tier_changed",
        about="One step up.",
        moment={"tier": {"from": "silver", "to": "gold"}},
        gives=True,
    ),
    Example(
        expression="coupon.kind == 'percent' && coupon.amount >= 20",
        on="coupon_used",
        about="A coupon of a fifth off, or more.",
        moment={"coupon": {"kind": "percent", "amount": 10}},
        gives=False,
    ),
    Example(
        expression="now.year - member.birth_year >= 50 && member.birth_year > 0",
        on="birthday",
        about="The fiftieth birthday and all that follow.",
        moment={"at": "2026-05-19T08:00:00+07:00", "member": {"birth_year": 1976}},
        gives=True,
    ),
)
AMOUNTS: Final[tuple[Example, ...]] = (
    Example(
        expression="points.amount / 10",
        on="points_spent",
        about="A tenth of what was spent comes back, rounded down.",
        moment={"points": {"amount": 125}},
        gives=12,
    ),
    Example(
        expression="counts.streak_days > 7 ? 70 : counts.streak_days * 10",
        about="Ten for each day of the streak, at most seventy.",
        moment={"counts": {"streak_days": 4}},
        gives=40,
    ),
    Example(
        expression="int(double(top_up.amount) * 0.015)",
        on="top_up",
        about="One and a half per cent of a top-up.",
        moment={"top_up": {"amount": 200000}},
        gives=3000,
    ),
    Example(
        expression="card.points - 1000",
        about="An amount must not be below 0: here the rule is skipped for who has less.",
        moment={"card": {"points": 10}},
        gives="amount_out_of_range",
    ),
)
# Those of expressions (`FailureReason`), of what a card has no room for, and of coupons.
FAILURES: Final[Mapping[str, str]] = {
    "key_missing": "An attribute is not there; ask has() first.",
    "index_out_of_range": "A list is not that long; ask size() first.",
    "division_by_zero": "Or the rest of a division by zero.",
    "overflow": "A whole number beyond 64 bits.",
    "type_mismatch": "An attribute is of another kind than the expression takes it for.",
    "amount_out_of_range": "An amount below 0, or above what one award may be.",
    "attribute_too_large": "An attribute has too many values in it to be looked into.",
    "not_computable": "Anything else that has no value, such as a number that is none.",
    "too_many_effects": "One cause has led to as many effects as it may.",
    "balance_limit_reached": "The card's balance would go beyond what a balance may be.",
    "lots_limit_reached": "The card would have more points with a date of their own than it may.",
    "coupon_limit_reached": "The coupon to grant has no use left that nobody has.",
    "coupon_not_active": "The coupon to grant is paused, or not out yet.",
    "coupon_not_started": "It is too early for the coupon to grant.",
    "coupon_expired": "It is too late for the coupon to grant.",
    "coupon_ended": "The coupon to grant has ended.",
    "coupon_not_for_card": "The coupon to grant is for other tiers.",
    "coupon_unknown": "There is no such coupon any more.",
}
WITHHELD: Final[Mapping[WithheldReason, str]] = {
    "card_limit_reached": "limits.per_card: the card had it often enough.",
    "card_day_limit_reached": "limits.per_card_per_day: often enough on this local day.",
    "budget_used_up": "limits.points_budget: what it would give is more than what is left.",
    "outdone": "Another rule of its group gives more.",
}
