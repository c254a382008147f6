"""An organisation's rules: the definitions, which are state, and what they compile to, which is not.

Rules:
1. A rulebook never changes; a rule that is saved or deleted makes another one.
2. It is compiled when it is first asked, and what compiled is kept with it. Equal definitions compile to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import msgspec

from actors.door_condition import DOOR_ARGUMENTS, DOOR_NAMES, DOOR_PATHS
from rules.compiled import RuleSet
from rules.language import GrantCoupon, RuleDefinition, Trigger

RULE_BYTES_MAX = 16_384  # of one definition, as the journal has it
RULES_BYTES_MAX = 1_048_576  # of all of an organisation's
_AT_DOORS: tuple[Trigger, ...] = ("checkin", "streak_reached", "points_earned", "tier_changed")


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
    def grants(self) -> bool:
        """Whether any rule grants coupons."""
        return any(isinstance(action, GrantCoupon) for rule in self.rules for action in rule.then)

    @cached_property
    def moved_at_door(self) -> Callable[..., int] | None:
        """Which rules' conditions an admission meets (`RuleSet.direct`): a function of card, event, command, visits,
        entries, now and when the scan was made (ms), and the time zone. Nearly no admission meets any, and saying so by
        one or two values takes a tenth of the time that it takes to make a whole moment (`actors.rule_run`). Rule 2."""
        return self.compiled.direct("checkin", DOOR_PATHS, DOOR_ARGUMENTS, DOOR_NAMES)

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
