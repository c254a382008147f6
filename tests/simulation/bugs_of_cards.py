"""Bugs in cards' lives and tags, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.checkin
import actors.judge
from actors.card import Card
from actors.card_commands import AssignTag, ReissueCard
from actors.card_facts import CardReissued
from actors.commands import IssueCard
from actors.facts import ScanJudged
from actors.handlers import HANDLERS
from actors.live import Views
from actors.tag import Tag
from tests.simulation.planting import around, deciding, planted


@planted
def an_old_credential_still_opens() -> Iterator[None]:
    original = actors.checkin.reason_against

    def reason(tenant: Any, card: Any, door: Any, command: Any, at_ms: int, now_ms: int) -> str:
        if card is not None:
            command = msgspec.structs.replace(command, serial=card.serial)
        return original(tenant, card, door, command, at_ms, now_ms)

    with patch.object(actors.checkin, "reason_against", reason):
        yield


@planted
def a_serial_is_given_twice() -> Iterator[None]:
    def change(original: Any, self: Any, fact: Any) -> None:
        if not isinstance(fact, CardReissued) or fact.serial % 2:
            original(self, fact)

    with around(Card, "_change", change):
        yield


@planted
def a_tap_is_good_twice() -> Iterator[None]:
    original = actors.checkin.reason_against

    def reason(tenant: Any, card: Any, door: Any, command: Any, at_ms: int, now_ms: int) -> str:
        more = command.tag_counter + (door.tag is not None and command.tag_counter == door.tag.counter)
        command = msgspec.structs.replace(command, tag_counter=more)
        return original(tenant, card, door, command, at_ms, now_ms)

    with patch.object(actors.checkin, "reason_against", reason):
        yield


@planted
def a_refused_tap_is_not_used_up() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        before = self.counter
        original(self, fact, position)
        if isinstance(fact, ScanJudged) and fact.reason:
            self.counter = before

    with around(Tag, "apply", apply):
        yield


@planted
def a_tag_serves_two_cards() -> Iterator[None]:
    def assign(scope: Any, command: Any, at_ms: int) -> Any:
        facts = original(scope, command, at_ms)
        if getattr(facts[-1], "reason", "") != "tag_in_use":
            return facts
        tag = scope.find("tag", f"{command.tenant_id}/{command.tag_uid}")
        before, tag.card_id = tag.card_id, ""
        facts = original(scope, command, at_ms)
        tag.card_id = before
        return facts

    original = HANDLERS[AssignTag].decide
    with deciding(AssignTag, assign):
        yield


@planted
def tags_are_shared_by_tenants() -> Iterator[None]:
    """The tag's id without its tenant."""
    with patch.object(actors.judge, "tag_id_of", lambda tenant_id, uid: f"org_a/{uid}"):
        yield


@planted
def a_number_is_given_again() -> Iterator[None]:
    def issue(scope: Any, command: Any, at_ms: int) -> Any:
        facts = original(scope, command, at_ms)
        number = max(1, scope.tenant.cards)
        return [msgspec.structs.replace(fact, number=number) if hasattr(fact, "number") else fact for fact in facts]

    original = HANDLERS[IssueCard].decide
    with deciding(IssueCard, issue):
        yield


@planted
def scanners_are_not_told_of_a_new_credential() -> Iterator[None]:
    def take(original: Any, self: Any, fact: Any, position: int) -> None:
        if not isinstance(fact, CardReissued):
            original(self, fact, position)

    with around(Views, "_take_revocation", take):
        yield


@planted
def a_revoked_card_is_issued_again() -> Iterator[None]:
    def reissue(scope: Any, command: Any, at_ms: int) -> Any:
        before, scope.card.state = scope.card.state, "active"
        facts = original(scope, command, at_ms)
        scope.card.state = before
        return facts

    original = HANDLERS[ReissueCard].decide
    with deciding(ReissueCard, reissue):
        yield
