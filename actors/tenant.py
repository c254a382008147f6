"""The virtual actor Tenant: an organisation's settings and rules, how many cards it has, and its side of the double
entry (`actors.accounts`). State changes only in `apply`.

`cards` counts towards the plan: cards issued since there are plans and not revoked. Facts from before tell no count;
they change nothing here. `issued` is the number of the card that was issued last; it only rises.

`accounts` has a position of its own: it changes with every posting to any card, settings nearly never, and each is
stored by itself. So do the rules, with the points that each has given so far and how it last failed; and the times at
which those that are scheduled come next (`actors.rounds`).
"""

from __future__ import annotations

import msgspec

from actors.accounts import contra_of
from actors.facts import CardIssued, CardStateChanged, PointsPosted, TenantChanged, TenantOpened
from actors.rule_facts import RuleDeleted, RuleFailed, RulesApplied, RuleSaved, RuleUnitsReturned
from actors.rulebook import NO_RULES, Rulebook
from actors.schedule_facts import NO_SCHEDULES, Schedules, SchedulesMoved
from actors.terms import TenantSettings

_RuleFact = RuleSaved | RuleDeleted | RulesApplied | RuleUnitsReturned
_TenantFact = TenantChanged | CardIssued | CardStateChanged | PointsPosted | _RuleFact | SchedulesMoved


class Tenant(msgspec.Struct, gc=False):
    """An organisation's state."""

    tenant_id: str
    name: str
    settings: TenantSettings
    cards: int = 0
    position: int = 0
    accounts: dict[str, int] = {}
    accounts_position: int = 0
    issued: int = 0
    rulebook: Rulebook = NO_RULES
    rule_points: dict[str, int] = {}
    rules_position: int = 0
    rule_failures: dict[str, RuleFailed] = {}
    schedules: Schedules = NO_SCHEDULES
    schedules_position: int = 0

    @classmethod
    def opened(cls, fact: TenantOpened, position: int) -> Tenant:
        """The organisation as it is when just opened."""
        return cls(fact.tenant_id, fact.name, fact.settings, position=position)

    def apply(
        self,
        fact: TenantChanged | CardIssued | CardStateChanged | PointsPosted | _RuleFact | SchedulesMoved,
        position: int,
    ) -> None:
        """Takes in a fact about this tenant or one of its cards."""
        if type(fact) is PointsPosted:
            if fact.amount and position > self.accounts_position:
                self._post(fact, position)
            return
        if type(fact) is RulesApplied:
            if (fact.steps or fact.failed_on) and position > self.rules_position:
                self._take_rules(fact)
                self.rules_position = position
            return
        if isinstance(fact, SchedulesMoved):
            if position > self.schedules_position:
                self.schedules, self.schedules_position = fact.schedules, position
            return
        if isinstance(fact, _RuleFact):
            is_used = not isinstance(fact, RuleUnitsReturned) or fact.steps
            if is_used and position > self.rules_position:
                self._apply_rules(fact)
                self.rules_position = position
            return
        if position <= self.position:
            return
        if isinstance(fact, TenantChanged):
            self.name = fact.name
            self.settings = fact.settings
        elif fact.cards_after >= 0:
            self.cards = fact.cards_after
            if isinstance(fact, CardIssued) and fact.number:
                self.issued = fact.number
        else:
            return
        self.position = position

    def _post(self, fact: PointsPosted, position: int) -> None:
        contra = contra_of(fact.account, fact.kind, fact.amount)
        after = self.accounts.get(contra, 0) - fact.amount
        assert fact.contra_after is None or fact.contra_after == after, "accounts are the sum of what was drawn on them"
        self.accounts[contra] = after
        self.accounts_position = position

    def _apply_rules(self, fact: _RuleFact) -> None:
        if isinstance(fact, RuleSaved):
            self.rulebook = self.rulebook.with_rule(fact.definition)
        elif isinstance(fact, RuleDeleted):
            self.rulebook = self.rulebook.without(fact.rule_id)
            self.rule_points.pop(fact.rule_id, None)
            self.rule_failures.pop(fact.rule_id, None)
        else:
            self._take_rules(fact)

    def _take_rules(self, fact: RulesApplied | RuleUnitsReturned) -> None:
        for step in fact.steps:
            self.rule_points[step.units.rule_id] = step.points_after
        if isinstance(fact, RulesApplied) and fact.failed_on:
            for one in fact.failures:
                failed = RuleFailed(one.version, fact.failed_on, fact.at_ms, one.where, one.reason)
                self.rule_failures[one.rule_id] = failed
