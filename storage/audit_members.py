"""The auditor's check of birthdays, from the facts a second time. Pure.

Rules as in `storage.audit_checks`, and those of `actors.birthdays`:

1. What is expected next is a day of the birthday that is known, in a year later than the last one, and due when that
   day begins by the organisation's clocks of then. An expectation that is kept stays as it was told.
2. A birthday comes for the day that was expected, not before that has begun, and for a card that is active; else it
   passes, or is expected later.
"""

from __future__ import annotations

import msgspec

from actors.calendar import last_of_month, start_of_day_ms
from actors.facts import CardIssued, CardStateChanged, Fact, TenantChanged, TenantOpened
from actors.member_facts import BirthdayCame, CardHolderDescribed
from storage.audit_checks import Findings, TenantThing


class _Known(msgspec.Struct):
    """A card's state, its birthday (month * 100 + day), when it is expected, and the year of the last one."""

    state: str = "active"
    birthday: int = 0
    on: int = 0
    due_ms: int = 0
    year: int = 0


class BirthdayCheck:
    """`birthdays`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._zones: dict[str, str] = {}
        self._cards: dict[TenantThing, _Known] = {}

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        if isinstance(fact, TenantOpened | TenantChanged):
            self._zones[fact.tenant_id] = fact.settings.time_zone
            return
        if not isinstance(fact, CardIssued | CardStateChanged | CardHolderDescribed | BirthdayCame):
            return
        card = self._cards.setdefault((fact.tenant_id, fact.card_id), _Known())
        if isinstance(fact, CardStateChanged):
            card.state = fact.state
        elif isinstance(fact, BirthdayCame):
            self._came(card, fact, place)
        else:
            card.birthday = fact.profile.birthday
            self._expects(card, fact, place)

    def _expects(self, card: _Known, fact: CardIssued | CardHolderDescribed | BirthdayCame, place: str) -> None:
        """Takes in what is expected next (rule 1)."""
        if fact.birthday_on and (fact.birthday_on, fact.birthday_due_ms) != (card.on, card.due_ms):
            year, month = fact.birthday_on // 10_000, card.birthday // 100
            day = min(year * 10_000 + card.birthday, last_of_month(year * 100 + month)) if month else 0
            begins_ms = start_of_day_ms(fact.birthday_on, self._zones.get(fact.tenant_id, "UTC"))
            is_right = fact.birthday_on == day and fact.birthday_due_ms == begins_ms > fact.at_ms and year > card.year
            if not is_right:
                self._note(place, fact, f"is expected on {fact.birthday_on} at {fact.birthday_due_ms}, born {card}")
        should = bool(card.birthday) and card.state != "revoked"
        if bool(fact.birthday_on) != should:
            self._note(place, fact, f"is expected on {fact.birthday_on}, born {card}")
        card.on, card.due_ms = fact.birthday_on, fact.birthday_due_ms

    def _came(self, card: _Known, fact: BirthdayCame, place: str) -> None:
        """Rule 2."""
        expected, zone = card.on, self._zones.get(fact.tenant_id, "UTC")
        has_begun = bool(expected) and start_of_day_ms(expected, zone) <= fact.at_ms
        is_there = has_begun and card.due_ms <= fact.at_ms and card.state == "active"
        if fact.came_on != (expected if is_there else 0):
            self._note(place, fact, f"comes on {fact.came_on}, expected {card}")
        if fact.came_on:
            card.year = fact.came_on // 10_000
        self._expects(card, fact, place)

    def _note(self, place: str, fact: CardIssued | CardHolderDescribed | BirthdayCame, detail: str) -> None:
        self._findings.add("birthdays", f"{place}: the birthday of {fact.card_id} {detail}")
