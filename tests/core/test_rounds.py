"""Rules that come at local times: when, for which cards, a few at a time, and what the auditor says of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import msgspec
import pytest

import actors.rounds
from actors.card import Card
from actors.commands import ChangeTenant
from actors.facts import AlarmSet, Fact, PointsPosted, TenantOpened
from actors.handlers import HANDLERS, WAKINGS
from actors.rounds import next_due_ms
from actors.rule_commands import DeleteRule, SaveRule
from actors.rule_facts import RulesApplied
from actors.schedule_facts import Round, RuleDue, Schedules, SchedulesMoved
from actors.scope import NotLoaded, Scope
from rules.language import AwardPoints, Limits, RuleDefinition, Schedule
from storage.audit_checks import Findings, RequestCheck
from storage.audit_rules import RulesCheck
from storage.audit_schedules import ScheduleCheck
from tests.core.build import card as new_card
from tests.core.build import scope
from tests.core.build import tenant as new_tenant

SAIGON = "Asia/Ho_Chi_Minh"
DAY_MS = 86_400_000


def at(zone: str, *local: int) -> int:
    return int(datetime(*local, tzinfo=ZoneInfo(zone)).astimezone(UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


NOON = at(SAIGON, 2026, 5, 27, 12)
NINE = at(SAIGON, 2026, 5, 28, 9)


def rule(rule_id: str = "rule_1", minute: int = 540, **more: Any) -> RuleDefinition:
    days = {name: more.pop(name) for name in ("weekdays", "days_of_month") if name in more}
    told = {"version": 0, "name": "News", "on": "schedule", "when": "true", "then": (AwardPoints(5),)}
    return RuleDefinition(
        **{"rule_id": rule_id, **told, "state": "active", "schedule": Schedule(minute, **days), **more}
    )


class House:
    """An organisation with cards, and what commands and time make of it. Postgres knows `cards`."""

    def __init__(self, *card_ids: str, **settings: Any) -> None:
        self.tenant = new_tenant(**{"time_zone": SAIGON, **settings})
        self.cards: dict[str, Card] = {card_id: new_card(card_id) for card_id in card_ids}
        opened = TenantOpened("org", "open", b"12345678", NOON, "Org", self.tenant.settings)
        self.facts: list[Fact] = [opened]
        self._position = 0

    def scope(self) -> Scope:
        return scope(self.tenant, *self.cards.values())

    def do(self, command: Any, at_ms: int = NOON) -> list[Fact]:
        return self._take(HANDLERS[type(command)].decide(self.scope(), command, at_ms))

    def save(self, definition: RuleDefinition, at_ms: int = NOON) -> list[Fact]:
        is_new = self.tenant.rulebook.get(definition.rule_id) is None
        return self.do(SaveRule("org", "save", b"12345678", definition, is_new), at_ms)

    def wake(self, at_ms: int) -> list[Fact]:
        made = self.scope()
        try:
            return self._take(WAKINGS["tenant"](made, self.tenant, at_ms))
        except NotLoaded:
            ((tenant_id, after, until_ms, count),) = made._wants.walks
            own = sorted(key for key, card in self.cards.items() if key > after and card.issued_at_ms <= until_ms)
            made._known.walks[tenant_id, after, until_ms, count] = tuple(own[:count])  # type: ignore[union-attr]
            return self._take(WAKINGS["tenant"](made, self.tenant, at_ms))

    def whole_round(self, at_ms: int) -> list[list[Fact]]:
        steps = [self.wake(at_ms)]
        while self.tenant.schedules.round is not None:
            steps.append(self.wake(at_ms))
        return steps

    def _take(self, facts: list[Fact]) -> list[Fact]:
        for fact in facts:
            self._position += 1
            if hasattr(fact, "card_id"):
                self.cards[fact.card_id].apply(fact, self._position)
            if not isinstance(fact, AlarmSet):
                self.tenant.apply(fact, self._position)
        self.facts += facts
        return facts

    @property
    def dues(self) -> list[tuple[str, int]]:
        return [(one.rule_id, one.due_ms) for one in self.tenant.schedules.dues]


def kinds(facts: list[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def alarm(facts: list[Fact]) -> int:
    return next(fact.wake_ms for fact in facts if isinstance(fact, AlarmSet) and fact.kind == "tenant")


def awarded(facts: list[Fact]) -> list[tuple[str, int]]:
    return [(fact.card_id, fact.amount) for fact in facts if isinstance(fact, PointsPosted)]


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "zone", "after", "due"),
    [
        ({}, SAIGON, (2026, 5, 27, 12), (2026, 5, 28, 9)),
        ({}, SAIGON, (2026, 5, 28, 8, 59, 59), (2026, 5, 28, 9)),
        ({}, SAIGON, (2026, 5, 28, 9), (2026, 5, 29, 9)),
        ({"weekdays": (1,)}, SAIGON, (2026, 5, 27, 12), (2026, 6, 1, 9)),
        ({"days_of_month": (31,)}, SAIGON, (2026, 5, 31, 9), (2026, 6, 30, 9)),
        ({"days_of_month": (29, 30, 31)}, SAIGON, (2026, 2, 1), (2026, 2, 28, 9)),
        ({"days_of_month": (29, 30, 31)}, SAIGON, (2028, 2, 1), (2028, 2, 29, 9)),
        ({"minute": 0}, "Pacific/Kiritimati", (2026, 5, 31, 23, 59), (2026, 6, 1)),
        ({"minute": 0}, "Etc/GMT+12", (2026, 5, 31, 23, 59), (2026, 6, 1)),
        # The clocks leave out 2:30, and show it twice.
        ({"minute": 150}, "Europe/Berlin", (2026, 3, 28, 12), (2026, 3, 29, 3)),
        ({"minute": 150}, "Europe/Berlin", (2026, 10, 24, 12), (2026, 10, 25, 2, 30)),
        ({"minute": 150}, "Europe/Berlin", (2026, 10, 25, 2, 30), (2026, 10, 26, 2, 30)),
    ],
)
def test_when_a_rule_comes_next(told: dict[str, Any], zone: str, after: Any, due: Any) -> None:
    assert next_due_ms(rule(**told), zone, at(zone, *after)) == at(zone, *due)


def test_a_rule_comes_within_its_validity_while_it_is_active() -> None:
    assert next_due_ms(rule(valid_from_ms=NINE + DAY_MS), SAIGON, NOON) == NINE + DAY_MS
    assert next_due_ms(rule(valid_from_ms=NINE + 1), SAIGON, NOON) == NINE + DAY_MS
    assert next_due_ms(rule(valid_until_ms=NINE + 1), SAIGON, NOON) == NINE
    assert next_due_ms(rule(valid_until_ms=NINE), SAIGON, NOON) == 0
    assert next_due_ms(rule(state="paused"), SAIGON, NOON) == 0
    assert next_due_ms(rule(on="birthday", schedule=None), SAIGON, NOON) == 0


def test_saving_changing_and_deleting_sets_the_alarm() -> None:
    house = House()
    facts = house.save(rule())
    assert kinds(facts) == ["RuleSaved", "SchedulesMoved", "AlarmSet"]
    assert (house.dues, alarm(facts)) == ([("rule_1", NINE)], NINE)
    assert kinds(house.save(rule("rule_2", 600))) == ["RuleSaved", "SchedulesMoved"], "the first one comes before"
    assert kinds(house.save(rule(name="Other"))) == ["RuleSaved"], "at the same times"
    assert alarm(house.save(rule(minute=480))) == NINE - 3_600_000
    assert alarm(house.save(rule(state="paused"))) == NINE + 3_600_000
    assert alarm(house.do(DeleteRule("org", "del", b"12345678", "rule_2"))) == 0
    assert house.dues == []
    assert kinds(house.save(rule("rule_3", on="birthday", schedule=None))) == ["RuleSaved"]


def test_other_clocks_are_other_times() -> None:
    house = House()
    house.save(rule())
    facts = house.do(ChangeTenant("org", "move", b"12345678", time_zone="Europe/Berlin"))
    assert kinds(facts) == ["TenantChanged", "SchedulesMoved", "AlarmSet"]
    assert house.dues == [("rule_1", at("Europe/Berlin", 2026, 5, 27, 9))]
    assert kinds(house.do(ChangeTenant("org", "name", b"12345678", name="Other"))) == ["TenantChanged"]


# --- for whom ---------------------------------------------------------------------------------------------------------


def test_a_round_moves_the_rule_for_each_active_card() -> None:
    house = House("card_1", "card_2", "card_3", "card_4")
    house.cards["card_2"].state = "suspended"
    house.cards["card_4"].issued_at_ms = NINE + 1
    house.save(rule())
    begun, step = house.whole_round(NINE + 3_000)
    assert kinds(begun) == ["AlarmSet", "SchedulesMoved"]
    assert alarm(begun) == NINE, "at once"
    assert house.dues == [("rule_1", NINE + DAY_MS)]
    assert kinds(step)[:2] == ["AlarmSet", "SchedulesMoved"]
    assert alarm(step) == NINE + DAY_MS
    assert awarded(step) == [("card_1", 5), ("card_3", 5)]
    posted = next(fact for fact in step if isinstance(fact, PointsPosted))
    assert (posted.cause, posted.day) == (f"schedule:{NINE}", 20260528)
    assert kinds(house.wake(NINE + 6_000)) == ["AlarmSet"], "nothing is due"


def test_a_round_goes_on_step_by_step_and_knows_each_card_once() -> None:
    house = House(*(f"card_{number:02}" for number in range(7)))
    house.save(rule())
    with patch.object(actors.rounds, "CARDS_PER_STEP_MAX", 3):
        steps = house.whole_round(NINE)
    assert [len(awarded(step)) for step in steps] == [0, 3, 3, 1]
    assert [card.balance for card in house.cards.values()] == [5] * 7


def test_a_step_ends_where_it_has_led_to_much() -> None:
    house = House(*(f"card_{number:02}" for number in range(7)))
    house.save(rule())
    with patch.object(actors.rounds, "FACTS_PER_STEP_MAX", 3):
        steps = house.whole_round(NINE)
    assert [len(awarded(step)) for step in steps] == [0, 2, 2, 2, 1], "two facts each"
    assert [card.balance for card in house.cards.values()] == [5] * 7


def test_an_organisation_without_cards_has_short_rounds() -> None:
    house = House()
    house.save(rule())
    assert [kinds(step) for step in house.whole_round(NINE)] == [["AlarmSet", "SchedulesMoved"]] * 2


def test_budgets_hold_over_all_cards_of_a_step() -> None:
    house = House("card_1", "card_2", "card_3")
    house.save(rule(limits=Limits(points_budget=12)))
    _, step = house.whole_round(NINE)
    assert awarded(step) == [("card_1", 5), ("card_2", 5)]
    assert house.tenant.rule_points == {"rule_1": 10}


def test_a_rule_that_fails_for_all_cards_is_told_once() -> None:
    house = House("card_1", "card_2", "card_3")
    house.save(rule(when="member.attributes.vip == 'yes'"))
    _, step = house.whole_round(NINE)
    assert [len(fact.failures) for fact in step if isinstance(fact, RulesApplied)] == [1]


def test_only_those_rules_are_moved_that_have_come() -> None:
    house = House("card_1")
    house.save(rule())
    house.save(rule("rule_2", 600, then=(AwardPoints(7),)))
    house.save(rule("rule_3", then=(AwardPoints(9),)))
    _, first = house.whole_round(NINE)
    assert [amount for _, amount in awarded(first)] == [5, 9]
    _, second = house.whole_round(NINE + 3_600_000)
    assert [amount for _, amount in awarded(second)] == [7]


def test_times_that_passed_are_made_up_for_once() -> None:
    house = House("card_1")
    house.save(rule())
    _, step = house.whole_round(NINE + 5 * DAY_MS + 1)
    assert awarded(step) == [("card_1", 5)]
    assert house.dues == [("rule_1", NINE + 6 * DAY_MS)]


def test_a_rule_that_is_deleted_during_a_round_moves_no_more() -> None:
    house = House("card_1", "card_2")
    house.save(rule())
    with patch.object(actors.rounds, "CARDS_PER_STEP_MAX", 1):
        house.wake(NINE)
        assert awarded(house.wake(NINE)) == [("card_1", 5)]
        house.do(DeleteRule("org", "del", b"12345678", "rule_1"), NINE + 1)
        assert alarm(house.wake(NINE + 2)) == NINE, "the round goes on to its end"
        assert alarm(house.wake(NINE + 2)) == 0
    assert house.cards["card_2"].balance == 0
    assert (house.tenant.schedules, house.dues) == (Schedules(), [])


# --- the auditor ------------------------------------------------------------------------------------------------------


def some_rounds() -> list[Fact]:
    house = House("card_1", "card_2", "card_3")
    house.save(rule())
    house.save(rule("rule_2", 600))
    with patch.object(actors.rounds, "CARDS_PER_STEP_MAX", 2):
        house.whole_round(NINE)
        house.whole_round(NINE + 3_600_000)
    return house.facts


def findings(facts: list[Fact], *checks: type) -> list[str]:
    found = Findings(1)
    made = [check(found) for check in checks or (ScheduleCheck,)]
    for number, fact in enumerate(facts):
        for check in made:
            check.take(fact, f"fact {number}")
    return [one.detail for one in found.kept]


def test_the_auditor_agrees() -> None:
    assert findings(some_rounds(), ScheduleCheck, RulesCheck, RequestCheck) == []


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (0, {"schedules": Schedules((RuleDue("rule_1", NINE + 1),))}),
        (0, {"schedules": Schedules((RuleDue("rule_1", NINE + 60_000),))}),
        (0, {"schedules": Schedules((RuleDue("rule_9", NINE),))}),
        (2, {"schedules": Schedules((), Round(NINE, ("rule_2",)))}),
        (2, {"schedules": Schedules((), Round(NINE + DAY_MS, ("rule_1",)))}),
        (2, {"schedules": Schedules((), Round(NINE, ("rule_1",), "card_1"))}),
        (3, {"walked_ms": NINE + 1}),
        (3, {"schedules": Schedules((), Round(NINE, ("rule_1",), ""))}),
        (3, {"schedules": Schedules((), Round(NINE, ("rule_2",), "card_2"))}),
        (4, {"walked_ms": 0}),
    ],
)
def test_the_auditor_finds_what_is_wrong(number: int, changes: dict[str, Any]) -> None:
    facts = some_rounds()
    place = [index for index, fact in enumerate(facts) if isinstance(fact, SchedulesMoved)][number]
    facts[place] = msgspec.structs.replace(facts[place], **changes)
    assert findings(facts)


def test_the_auditor_finds_rules_that_are_moved_out_of_turn() -> None:
    facts = some_rounds()
    place = next(index for index, fact in enumerate(facts) if isinstance(fact, RulesApplied))
    for changes in ({"card_id": "card_3"}, {"cause": "schedule:1"}):
        wrong = [*facts[:place], msgspec.structs.replace(facts[place], **changes), *facts[place + 1 :]]
        assert findings(wrong), changes
