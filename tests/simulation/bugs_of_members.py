"""Bugs in birthdays and in what rules know of members, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.birthdays
import actors.points
import actors.rule_run
from actors.birthdays import decide_describe_card_holder
from actors.card import Card
from actors.ledger import LedgerDraft
from actors.member_commands import DescribeCardHolder
from actors.member_facts import BirthdayCame, CardHolderDescribed
from actors.rule_run import RuleRun
from actors.seldom import with_seldom
from tests.simulation.planting import around, deciding, planted
from tests.simulation.postgres_model import PostgresModel


@planted
def a_birthday_comes_again_when_it_is_changed() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any) -> None:
        original(self, fact)
        self.seldom = with_seldom(self.seldom, birthday_year=0)

    with around(Card, "_change", apply):
        yield


@planted
def a_birthday_that_is_told_again_on_its_day_is_lost() -> Iterator[None]:
    def describe(scope: Any, command: Any, at_ms: int) -> Any:
        card = scope.card
        if 0 < card.birthday_due_ms <= at_ms:
            scope.actors["card"] = msgspec.structs.replace(
                card, seldom=with_seldom(card.seldom, birthday_on=0, birthday_due_ms=0)
            )
        return decide_describe_card_holder(scope, command, at_ms)

    with deciding(DescribeCardHolder, describe):
        yield


@planted
def suspended_cards_have_birthdays() -> Iterator[None]:
    original = actors.points.birthday_woken

    def woken(tenant: Any, card: Any, at_ms: int) -> Any:
        state, card.state = card.state, "active" if card.state == "suspended" else card.state
        try:
            return original(tenant, card, at_ms)
        finally:
            card.state = state

    with patch.object(actors.points, "birthday_woken", woken):
        yield


@planted
def birthdays_are_those_of_the_old_time_zone() -> Iterator[None]:
    """The alarm is believed, wherever the organisation's clocks are by now."""
    with patch.object(actors.birthdays, "start_of_day_ms", lambda day, zone: 0):
        yield


@planted
def birthdays_move_no_rules() -> Iterator[None]:
    def happens(original: Any, self: Any, trigger: str, *more: Any, **views: Any) -> None:
        if trigger != "birthday":
            original(self, trigger, *more, **views)

    with around(RuleRun, "happens", happens):
        yield


@planted
def rules_see_nobody() -> Iterator[None]:
    with patch.object(actors.rule_run, "attributes_of", lambda text: {}):
        yield


@planted
def the_alarm_forgets_the_next_birthday() -> Iterator[None]:
    def wake_ms(original: Any, self: Any) -> int:
        due_ms, self.birthday_due_ms = self.birthday_due_ms, 0
        found: int = original(self)
        self.birthday_due_ms = due_ms
        return found

    with around(LedgerDraft, "_wake_ms", wake_ms):
        yield


@planted
def a_profile_is_not_stored() -> Iterator[None]:
    def write(original: Any, self: Any, fact: Any, position: int) -> None:
        if not isinstance(fact, CardHolderDescribed):
            original(self, fact, position)

    with around(PostgresModel, "_write", write):
        yield


@planted
def the_year_of_a_birthday_is_not_stored() -> Iterator[None]:
    def write(original: Any, self: Any, fact: Any, position: int) -> None:
        if not isinstance(fact, BirthdayCame):
            original(self, fact, position)

    with around(PostgresModel, "_write", write):
        yield
