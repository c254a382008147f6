"""Birthdays after a replay, and before the auditor."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.codec import decode_facts, encode_facts
from actors.commands import ChangeCardState
from actors.entry import Entry
from actors.facts import CardIssued, Fact, TenantOpened
from actors.handlers import HANDLERS
from actors.member_facts import BirthdayCame, CardHolderDescribed
from actors.profiles import Profile
from actors.rule_facts import RulesApplied, RuleSaved
from actors.terms import TenantSettings
from rules.language import AwardPoints
from storage.audit_checks import Findings, RequestCheck
from storage.audit_members import BirthdayCheck
from storage.audit_rules import RulesCheck
from storage.replay import WorldState
from tests.core.build import card as new_card
from tests.core.build import scope
from tests.core.build import tenant as new_tenant
from tests.core.test_birthdays import DAY_MS, HEAD, MAY, SAIGON, Life, at, with_rules


def some_years() -> list[Fact]:
    """An organisation that moves, with a card of which things are told."""
    life = Life(with_rules(AwardPoints(10)))
    opened = TenantOpened("org", "open", b"", MAY, "Org", TenantSettings(SAIGON))
    issued = CardIssued("org", "issue", b"", MAY, "card", "mem", "Ann", "gold", number=1, cards_after=1)
    life.describe(601, MAY)
    life.wake(life.coming[1])
    life.describe(229, life.coming[1] - DAY_MS * 100, '{"vip":1}')
    life.wake(life.coming[1])
    life.wake(life.coming[1])
    return [opened, issued, *life.facts]


def test_a_replay_gives_the_same_card() -> None:
    world = WorldState()
    facts = some_years()
    for position, fact in enumerate(decode_facts(Entry(1, 1, 0, b"", encode_facts(facts), 1)), 1):
        if not isinstance(fact, RulesApplied):  # the rule is not in this journal
            world.apply(fact, position)
    card = world.cards["org", "card"]
    assert (card.profile, card.birthday_year, card.balance) == (Profile(229, 0, '{"vip":1}'), 2028, 30)


def findings(facts: list[Fact]) -> list[str]:
    found = Findings(1)
    check = BirthdayCheck(found)
    for number, fact in enumerate(facts):
        check.take(fact, f"fact {number}")
    return [one.detail for one in found.kept]


def test_the_auditor_agrees() -> None:
    assert findings(some_years()) == []


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (CardHolderDescribed, {"birthday_on": 20260602}),
        (CardHolderDescribed, {"birthday_due_ms": at(SAIGON, 2026, 6, 1) + 1}),
        (CardHolderDescribed, {"birthday_on": 0, "birthday_due_ms": 0}),
        (CardHolderDescribed, {"profile": Profile()}),
        (BirthdayCame, {"came_on": 20260602}),
        (BirthdayCame, {"came_on": 0}),
        (BirthdayCame, {"at_ms": at(SAIGON, 2026, 6, 1) - 1}),
        (BirthdayCame, {"birthday_on": 20261201, "birthday_due_ms": at(SAIGON, 2026, 12, 1)}),
    ],
)
def test_the_auditor_finds_what_is_wrong(kind: type, changes: dict[str, Any]) -> None:
    facts = some_years()
    place = next(number for number, fact in enumerate(facts) if isinstance(fact, kind))
    facts[place] = msgspec.structs.replace(facts[place], **changes)
    assert findings(facts)


def test_the_auditor_finds_a_birthday_of_a_suspended_card() -> None:
    facts = some_years()
    place = next(number for number, fact in enumerate(facts) if isinstance(fact, BirthdayCame))
    suspended = ChangeCardState(*HEAD, "card", "suspended")
    made = HANDLERS[ChangeCardState].decide(scope(new_tenant(), new_card()), suspended, MAY)
    assert findings([*facts[:place], *made, *facts[place:]])


def test_the_auditor_of_rules_knows_the_cause() -> None:
    tenant = with_rules(AwardPoints(10))
    found = Findings(1)
    check = RulesCheck(found)
    life = Life(tenant)
    life.describe(601, MAY)
    (rule,) = tenant.rulebook.rules
    for fact in [RuleSaved("org", "save", b"", MAY, rule), *life.wake(life.coming[1])]:
        check.take(fact, "fact")
    check.end_entry("entry")
    assert found.kept == []


def test_a_birthday_answers_nobody_and_that_is_right() -> None:
    found = Findings(1)
    check = RequestCheck(found)
    life = Life()
    life.describe(601, MAY)
    for fact in life.wake(life.coming[1]):
        check.take(fact, "fact")
    assert found.kept == []
