"""What most cards never have, in a struct of its own: a host keeps a million cards, and each field of theirs costs it
8 MB.

Rules:
1. A value never changes; a card whose own changes gets another. Those that have none of it share `NOTHING_SELDOM`.
2. What is equal is the same: `seldom_of` gives cards without any of it that one value back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.profiles import NO_PROFILE, Profile
from actors.rule_facts import RuleUse
from actors.terms import EarnedDay, Hold


class Seldom(msgspec.Struct, frozen=True, gc=False):
    """Fields of a card, as `actors.card.Card` tells them."""

    attention: str = ""
    tag_uid: str = ""
    rule_uses: tuple[RuleUse, ...] = ()
    tier_due_ms: int = 0
    tier_is_held: bool = False
    earned_days: tuple[EarnedDay, ...] = ()
    profile: Profile = NO_PROFILE
    birthday_on: int = 0
    birthday_due_ms: int = 0
    birthday_year: int = 0
    holds: tuple[Hold, ...] = ()


NOTHING_SELDOM = Seldom()


def seldom_of(*values: Any) -> Seldom:
    """A value with these fields, in their order."""
    made = Seldom(*values)
    return NOTHING_SELDOM if made == NOTHING_SELDOM else made


def with_seldom(before: Seldom, **changes: Any) -> Seldom:
    """The same with some fields changed."""
    made = msgspec.structs.replace(before, **changes)
    return NOTHING_SELDOM if made == NOTHING_SELDOM else made
