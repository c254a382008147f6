"""What a rule is: a trigger, a limit and what it gives. (Conditions, budgets and more actions come with the rule
language.)

Pure data, journaled inside the tenant's settings: fields are only ever added at the end, with a default.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Trigger = Literal["checkin"]


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """ "If this, then that": on an admitted entry, award `points` to the card.

    `version` grows with each change, so that every award can cite the very text that granted it.
    `once_per_event` limits the award to the card's first entry to an event.
    """

    rule_id: str
    version: int
    name: str
    on: Trigger
    points: int
    once_per_event: bool = True


class CheckInMoment(msgspec.Struct, frozen=True, gc=False):
    """What a rule may look at when an entry has been admitted. `entries` counts this card's entries to this event,
    this one included."""

    tier: str
    entries: int


class Award(msgspec.Struct, frozen=True, gc=False):
    """A rule's effect: `points` (≥ 1), and the rule and version that grant them."""

    rule_id: str
    version: int
    points: int
