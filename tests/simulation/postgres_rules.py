"""The part of the simulated Postgres that keeps rules: what they are, what they gave, how they failed, cards' uses."""

from __future__ import annotations

from typing import Any

from actors.rule_facts import RuleDeleted, RuleFailed, RuleSaved, RuleUse
from actors.rulebook import Rulebook
from actors.schedule_facts import NO_SCHEDULES, Schedules, SchedulesMoved
from rules.language import RuleDefinition


class RuleTables:
    """Rows by tenant and rule, each with the position of the fact that set it."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str], tuple[RuleDefinition | None, int]] = {}
        self._points: dict[tuple[str, str], tuple[int, int]] = {}
        self._failures: dict[tuple[str, str], tuple[RuleFailed, int]] = {}
        self._uses: dict[tuple[str, str], dict[str, RuleUse]] = {}
        self._schedules: dict[str, tuple[Schedules, int]] = {}

    def write(self, fact: Any, position: int) -> None:
        """Takes in a fact about rules."""
        tenant_id = fact.tenant_id
        if isinstance(fact, RuleSaved):
            self._rules[tenant_id, fact.definition.rule_id] = (fact.definition, position)
        elif isinstance(fact, RuleDeleted):
            self._rules[tenant_id, fact.rule_id] = (None, position)
        else:
            for one in getattr(fact, "failures", ()):
                failed = RuleFailed(one.version, fact.failed_on, fact.at_ms, one.where, one.reason)
                self._failures[tenant_id, one.rule_id] = (failed, position)
            for step in fact.steps:
                self._points[tenant_id, step.units.rule_id] = (step.points_after, position)
                if step.use is not None:
                    self._uses.setdefault((tenant_id, fact.card_id), {})[step.use.rule_id] = step.use

    def write_schedules(self, fact: SchedulesMoved, position: int) -> None:
        """When scheduled rules come."""
        self._schedules[fact.tenant_id] = (fact.schedules, position)

    def of(self, tenant_id: str) -> tuple[Rulebook, dict[str, int], int, dict[str, RuleFailed], Schedules, int]:
        """As a `Tenant` has them, the position of the latest in the third place, and of the schedules in the last."""
        rules = _own(self._rules, tenant_id)
        points, failures = _own(self._points, tenant_id), _own(self._failures, tenant_id)
        there = {rule_id: definition for rule_id, (definition, _) in sorted(rules.items()) if definition is not None}
        changed = max((row[1] for rows in (rules, points, failures) for row in rows.values()), default=0)
        given = {rule_id: row[0] for rule_id, row in points.items() if rule_id in there}
        failed = {rule_id: row[0] for rule_id, row in failures.items() if rule_id in there}
        schedules = self._schedules.get(tenant_id, (NO_SCHEDULES, 0))
        return Rulebook(tuple(there.values())), given, changed, failed, *schedules

    def uses(self, card: tuple[str, str]) -> tuple[RuleUse, ...]:
        """A card's uses of rules."""
        return tuple(use for _, use in sorted(self._uses.get(card, {}).items()))


def _own(rows: dict[tuple[str, str], Any], tenant_id: str) -> dict[str, Any]:
    return {rule_id: row for (owner, rule_id), row in rows.items() if owner == tenant_id}
