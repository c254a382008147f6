"""Bugs in rules, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.door_condition
import actors.doors
import actors.points
import actors.rule_run
import actors.rulebook
from actors.card import Card
from actors.rule_facts import RulesApplied, RuleUnitsReturned
from actors.rule_run import RuleRun
from actors.tenant import Tenant
from rules.compiled import RuleSet
from rules.outcome import Uses
from tests.simulation.planting import around, planted


@planted
def limits_per_card_are_not_looked_at() -> Iterator[None]:
    def used(original: Any, self: Any, rule_id: str) -> Any:
        return msgspec.structs.replace(original(self, rule_id), card=0, card_day=0)

    with around(RuleRun, "__getitem__", used):
        yield


@planted
def budgets_are_refilled_by_every_cause() -> Iterator[None]:
    def used(original: Any, self: Any, rule_id: str) -> Uses:
        found: Uses = original(self, rule_id)
        return msgspec.structs.replace(found, points=0)

    with around(RuleRun, "__getitem__", used):
        yield


@planted
def what_is_annulled_stays_used() -> Iterator[None]:
    with patch.object(actors.doors, "units_returned", lambda *_: []):
        yield


@planted
def points_of_rules_stay_when_their_cause_is_reversed() -> Iterator[None]:
    with patch.object(actors.points, "take_back_awards", lambda *_: None):
        yield


@planted
def a_use_is_counted_for_every_card() -> Iterator[None]:
    """The counts of a card are lost when it is loaded again, or never come into its state."""
    with around(Card, "_count_rules", lambda original, self, uses: None):
        yield


@planted
def units_come_back_twice() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any) -> None:
        original(self, fact)
        if isinstance(fact, RuleUnitsReturned):
            for step in fact.steps:
                self.rule_points[step.units.rule_id] -= step.units.points

    with around(Tenant, "_apply_rules", apply):
        yield


@planted
def effects_of_rules_move_no_rules() -> Iterator[None]:
    with patch.object(actors.rule_run, "DEPTH_MAX", 1):
        yield


@planted
def effects_go_one_level_too_deep() -> Iterator[None]:
    def evaluate(original: Any, self: Any, moment: Any, uses: Any) -> Any:
        return original(self, msgspec.structs.replace(moment, depth=0), uses)

    with patch.object(actors.rule_run, "DEPTH_MAX", 4), around(RuleSet, "evaluate", evaluate):
        yield


@planted
def multiplying_forgets_the_simple_award() -> Iterator[None]:
    def evaluate(original: Any, self: Any, moment: Any, uses: Any) -> Any:
        return original(self, msgspec.structs.replace(moment, base_points=0), uses)

    with around(RuleSet, "evaluate", evaluate):
        yield


@planted
def a_changed_rule_keeps_its_version() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any) -> None:
        original(self, fact)
        if not isinstance(fact, RulesApplied | RuleUnitsReturned):
            rules = tuple(msgspec.structs.replace(rule, version=1) for rule in self.rulebook.rules)
            self.rulebook = type(self.rulebook)(rules)

    with around(Tenant, "_apply_rules", apply):
        yield


@planted
def failures_are_not_recorded() -> Iterator[None]:
    def take(original: Any, self: Any, moment: Any, outcome: Any) -> Any:
        return original(self, moment, msgspec.structs.replace(outcome, failures=()))

    with around(RuleRun, "_take", take):
        yield


@planted
def a_door_is_told_too_quickly_that_no_rule_is_meant() -> Iterator[None]:
    with patch.dict(actors.door_condition.DOOR_PATHS, {"counts.visits_week": "visits.today - visits.today"}):
        yield


@planted
def a_rule_that_fails_is_told_each_time() -> Iterator[None]:
    with patch.object(RuleRun, "_news_of", lambda self, failures: (20_260_501, failures)):
        yield


@planted
def a_rule_that_failed_is_forgotten() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any) -> None:
        original(self, fact)
        self.rule_failures.clear()

    with around(Tenant, "_apply_rules", apply):
        yield
