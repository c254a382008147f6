"""An organisation's rules: the definitions, which are state, and what they compile to, which is not.

Rules:
1. A rulebook never changes; a rule that is saved or deleted makes another one.
2. It is compiled when it is first asked, and what compiled is kept with it. Equal definitions compile to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import msgspec

from actors.profiles import attributes_of
from rules.compiled import RuleSet
from rules.language import RuleDefinition, Trigger
from rules.schedule import local_time

DAY_MS = 24 * 3_600_000
RULE_BYTES_MAX = 16_384  # of one definition, as the journal has it
RULES_BYTES_MAX = 1_048_576  # of all of an organisation's
_AT_DOORS: tuple[Trigger, ...] = ("checkin", "streak_reached", "points_earned", "tier_changed")

_ARGUMENTS = ("card", "event", "command", "visits", "entries", "at_ms", "happened_ms", "zone")
# The fields of a check-in's moment, of the actors themselves. (Visits are as of the day of the scan.)
_PATHS = {
    "at_ms": "happened_ms",
    "card.card_id": "card.card_id",
    "card.tier": "card.tier",
    "card.points": "card.available(at_ms)",
    "card.earned": "card.earned",
    "card.wallet": "card.wallet",
    "card.issued_days": "days(card.issued_at_ms, happened_ms)",
    "member.member_id": "card.member_id",
    "member.birthday": "card.profile.birthday",
    "member.birth_year": "card.profile.birth_year",
    "member.attributes": "attributes(card.profile.attributes)",
    "counts.visits_today": "visits.today",
    "counts.visits_week": "visits.this_week",
    "counts.visits_event": "entries",
    "counts.visits_ever": "visits.ever",
    "counts.streak_days": "visits.streak",
    "event.event_id": "event.event_id",
    "event.name": "event.terms.name",
    "event.doors_open_ms": "event.terms.doors_open_ms",
    "scan.gate_id": "command.gate_id",
    "scan.direction": "command.direction",
    "scan.device_id": "command.device_id",
    "scan.offline": "command.is_offline",
    **{
        f"now.{name}": f"local_time(happened_ms, zone).{name}"
        for name in ("year", "month", "day", "hour", "minute", "weekday", "date")
    },
}


def whole_days(since_ms: int, until_ms: int) -> int:
    """The whole days since then, 0 where that is not known."""
    return max(0, until_ms - since_ms) // DAY_MS if since_ms else 0


class Rulebook(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The rules by their ids."""

    rules: tuple[RuleDefinition, ...] = ()

    @cached_property
    def compiled(self) -> RuleSet:
        """Rule 2."""
        return RuleSet.compile(self.rules)

    @cached_property
    def hears_doors(self) -> bool:
        """Whether an admission may move a rule, or what it earns."""
        return any(self.compiled.listens_to(trigger) for trigger in _AT_DOORS)

    @cached_property
    def hears_earnings(self) -> bool:
        """Whether points that are earned may move a rule, by themselves or by the rise that they lead to."""
        return self.compiled.listens_to("points_earned") or self.compiled.listens_to("tier_changed")

    @cached_property
    def may_move_at_door(self) -> Callable[..., Any]:
        """Whether an admission may meet a rule's condition: a function of card, event, command, visits, entries, now
        and when the scan was made (ms), and the time zone. Nearly no admission does, and saying so by one or two values
        takes a tenth of the time that it takes to make a whole moment (`actors.rule_run`). Rule 2."""
        names = {"local_time": local_time, "days": whole_days, "attributes": attributes_of}
        return self.compiled.direct("checkin", _PATHS, _ARGUMENTS, names)

    def get(self, rule_id: str) -> RuleDefinition | None:
        """The rule with this id, None where there is none."""
        return next((rule for rule in self.rules if rule.rule_id == rule_id), None)

    def with_rule(self, definition: RuleDefinition) -> Rulebook:
        """With this rule, instead of the one of its id."""
        others = self.without(definition.rule_id).rules
        return Rulebook(tuple(sorted((*others, definition), key=lambda rule: rule.rule_id)))

    def without(self, rule_id: str) -> Rulebook:
        """Without the rule of this id."""
        return Rulebook(tuple(rule for rule in self.rules if rule.rule_id != rule_id))


NO_RULES = Rulebook()
