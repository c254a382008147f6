"""Bugs in rules that come at local times, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.admin
import actors.rounds
from actors.schedule_facts import SchedulesMoved
from actors.scope import Scope
from actors.tenant import Tenant
from tests.simulation.planting import around, planted
from tests.simulation.postgres_model import PostgresModel


@planted
def schedules_go_by_utc() -> Iterator[None]:
    original = actors.rounds.next_due_ms
    with patch.object(actors.rounds, "next_due_ms", lambda rule, zone, after_ms: original(rule, "UTC", after_ms)):
        yield


@planted
def schedules_stay_where_the_clocks_were() -> Iterator[None]:
    with patch.object(actors.admin, "rescheduled", lambda *_: []):
        yield


@planted
def a_rule_comes_on_every_day() -> Iterator[None]:
    original = actors.rounds.next_scheduled

    def next_scheduled(after_ms: int, schedule: Any, zone: str) -> int:
        return original(after_ms, msgspec.structs.replace(schedule, weekdays=(), month_days=()), zone)

    with patch.object(actors.rounds, "next_scheduled", next_scheduled):
        yield


@planted
def a_round_begins_anew_with_each_step() -> Iterator[None]:
    def after(original: Any, self: Any, card_id: str, until_ms: int, count: int) -> Any:
        return original(self, "", until_ms, count)

    with around(Scope, "cards_after", after):
        yield


@planted
def budgets_are_counted_by_card() -> Iterator[None]:
    """Two cards of one step do not know of each other."""
    original = actors.rounds.RuleRun
    with patch.object(actors.rounds, "RuleRun", lambda *args, before, **more: original(*args, **more)):
        yield


@planted
def suspended_cards_are_walked_too() -> Iterator[None]:
    def find_all(original: Any, self: Any, keys: Any) -> Any:
        found = original(self, keys)
        return [msgspec.structs.replace(one, state="active") if hasattr(one, "tier_due_ms") else one for one in found]

    with around(Scope, "find_all", find_all):
        yield


@planted
def all_scheduled_rules_come_together() -> Iterator[None]:
    def happens(original: Any, self: Any, trigger: str, *more: Any, **views: Any) -> None:
        views.pop("due", None)
        original(self, trigger, *more, **views)

    with around(actors.rounds.RuleRun, "happens", happens):
        yield


@planted
def a_round_is_forgotten_with_its_memory() -> Iterator[None]:
    def load(original: Any, self: Any, tenant_id: str) -> Any:
        tenant = original(self, tenant_id)
        tenant.schedules = msgspec.structs.replace(tenant.schedules, round=None)
        return tenant

    with around(PostgresModel, "load_tenant", load):
        yield


@planted
def an_older_fact_about_schedules_counts() -> Iterator[None]:
    """The tail is applied to what is newer."""

    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        if isinstance(fact, SchedulesMoved):
            self.schedules_position = position - 2
        original(self, fact, position - 1 if isinstance(fact, SchedulesMoved) else position)

    with around(Tenant, "apply", apply):
        yield
