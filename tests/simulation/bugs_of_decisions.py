"""Bugs in decisions, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any
from unittest.mock import ANY, patch

import msgspec

import actors.checkin
import actors.partition
import actors.ranking
import actors.recovery
from actors.commands import ChangeCardState, IssueCard
from actors.handlers import HANDLERS
from actors.ledger import LedgerDraft
from actors.recent import RecentEntries
from tests.simulation.planting import around, deciding, planted


@planted
def capacity_off_by_one() -> Iterator[None]:
    def reason(original: Any, event: Any, seen: Any, command: Any) -> str:
        found = str(original(event, seen, command))
        return "" if found == "full" and event.inside == event.terms.capacity else found

    original = actors.checkin._reason_of_attendance
    with patch.object(actors.checkin, "_reason_of_attendance", lambda *args: reason(original, *args)):
        yield


@planted
def plan_off_by_one() -> Iterator[None]:
    def issue(original: Any, scope: Any, command: Any, at_ms: int) -> Any:
        before, scope.tenant.cards = scope.tenant.cards, scope.tenant.cards - 1
        facts = original(scope, command, at_ms)
        scope.tenant.cards = before
        return [msgspec.structs.replace(fact, cards_after=before + 1) for fact in facts if hasattr(fact, "cards_after")]

    original = HANDLERS[IssueCard].decide
    with deciding(IssueCard, lambda *args: issue(original, *args) or original(*args)):
        yield


@planted
def every_revocation_makes_room() -> Iterator[None]:
    def change(scope: Any, command: Any, at_ms: int) -> Any:
        before, scope.card.state = scope.card.state, "active" if scope.card.state == command.state else scope.card.state
        facts = original(scope, command, at_ms)
        scope.card.state = before
        return facts

    original = HANDLERS[ChangeCardState].decide
    with deciding(ChangeCardState, change):
        yield


@planted
def reversal_not_remembered() -> Iterator[None]:
    with patch.object(RecentEntries, "reversed_by", lambda self, card_id, entry_seq: ""):
        yield


@planted
def condition_passed_over() -> Iterator[None]:
    with patch("actors.admin._version", lambda *_: ANY):
        yield


@planted
def expiry_reads_another_clock() -> Iterator[None]:
    def expire(original: Any, self: Any) -> None:
        self._at_ms += 40
        original(self)
        self._at_ms -= 40

    with around(LedgerDraft, "settle", expire):
        yield


@planted
def oldest_lot_spent_first() -> Iterator[None]:
    with patch.object(actors.ledger, "_spending_order", lambda lot: (lot.lot, 0)):
        yield


@planted
def tie_goes_to_the_last() -> Iterator[None]:
    after = actors.ranking._Equals.after

    def last_first(self: Any, skipped: int) -> Iterator[str]:
        return islice(reversed(list(after(self, 0))), skipped, None)

    with patch.object(actors.ranking._Equals, "after", last_first):
        yield
