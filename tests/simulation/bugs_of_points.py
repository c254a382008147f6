"""Bugs in points, holds, transfers and the double entry, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.holds
import actors.ledger
from actors.card import Card
from actors.facts import PointsPosted
from actors.handlers import HANDLERS
from actors.ledger import LedgerDraft
from actors.points_commands import CapturePoints, TransferPoints
from actors.refusals import HOLD_CAPTURED
from actors.scope import Scope
from actors.seldom import with_seldom
from actors.tenant import Tenant
from tests.simulation.planting import around, deciding, planted


@planted
def hold_not_counted() -> Iterator[None]:
    def available(original: Any, self: Card, at_ms: int) -> int:
        return int(original(self, at_ms)) + self.held("points", at_ms)

    with around(Card, "available", available):
        yield


@planted
def hold_ends_twice() -> Iterator[None]:
    """Whoever releases does not look whether it was captured."""
    released: dict[tuple[str, int], Any] = {}

    def hold(original: Any, scope: Any, command: Any, at_ms: int) -> Any:
        found = original(scope, command, at_ms)
        key = (command.card_id, command.entry_seq)
        if not isinstance(found, list):
            released[key] = found
        elif key in released and found[0].reason == HOLD_CAPTURED:
            scope.card.seldom = with_seldom(scope.card.seldom, holds=(*scope.card.holds, released[key]))
            return released[key]
        return found

    original = actors.holds._open_hold
    with patch.object(actors.holds, "_open_hold", lambda *args: hold(original, *args)):
        yield


@planted
def lapsed_hold_captured() -> Iterator[None]:
    """Its lapse is not posted yet, so it still seems open."""
    original = HANDLERS[CapturePoints].decide

    def capture(scope: Any, command: Any, at_ms: int) -> Any:
        card = scope.card
        before = card.seldom
        holds = tuple(msgspec.structs.replace(hold, lapses_at_ms=at_ms + 1) for hold in card.holds)
        card.seldom = with_seldom(before, holds=holds)
        facts = original(scope, command, at_ms)
        card.seldom = before
        return facts

    with deciding(CapturePoints, capture):
        yield


@planted
def all_ends_look_alike() -> Iterator[None]:
    with patch.object(actors.holds, "_ENDED", dict.fromkeys(actors.holds._ENDED, HOLD_CAPTURED)):
        yield


@planted
def released_points_are_gone() -> Iterator[None]:
    with around(LedgerDraft, "_filled", lambda original, self, back: original(self, [])):
        yield


@planted
def pending_spendable() -> Iterator[None]:
    with around(Card, "available", lambda original, self, at_ms: original(self, at_ms) + self.pending(at_ms)):
        yield


@planted
def expiry_of_spent_points() -> Iterator[None]:
    """What lapses is what was awarded, not what is left of it."""

    def post(original: Any, self: Any, kind: Any, amount: int, cause: str, **more: Any) -> Any:
        if kind == "expire" and self.balance > -amount:
            amount -= 1
        return original(self, kind, amount, cause, **more)

    with around(LedgerDraft, "post", post):
        yield


@planted
def contra_not_moved() -> Iterator[None]:
    def post(original: Any, self: Tenant, fact: PointsPosted, position: int) -> None:
        if fact.kind != "expire":
            original(self, fact, position)

    with around(Tenant, "_post", post):
        yield


@planted
def transfer_with_one_leg() -> Iterator[None]:
    original = HANDLERS[TransferPoints].decide

    def transfer(scope: Any, command: Any, at_ms: int) -> Any:
        return [fact for fact in original(scope, command, at_ms) if getattr(fact, "amount", -1) <= 0]

    with deciding(TransferPoints, transfer):
        yield


@planted
def transfer_counts_the_accounts_twice() -> Iterator[None]:
    """The second card's draft begins with the accounts as they were before the first."""

    def init(original: Any, self: Any, tenant: Any, card: Any, at_ms: int, before: Any = None) -> None:
        original(self, tenant, card, at_ms)

    with around(LedgerDraft, "__init__", init):
        yield


@planted
def wallet_may_be_overdrawn() -> Iterator[None]:
    with around(Card, "wallet_available", lambda original, self, at_ms: original(self, at_ms) + 5):
        yield


@planted
def no_grace() -> Iterator[None]:
    with around(LedgerDraft, "give_back", lambda original, self, spent, grace_ms: original(self, spent, 0)):
        yield


@planted
def end_of_a_hold_forgotten() -> Iterator[None]:
    """What Postgres tells of an entry leaves out how it ended."""

    def entry(original: Any, self: Scope, card_id: str, entry_seq: int) -> Any:
        found = original(self, card_id, entry_seq)
        return found if found is None else msgspec.structs.replace(found, reversed_by=found.reversed_by and "release")

    with around(Scope, "ledger_entry", entry):
        yield


@planted
def alarm_forgets_holds() -> Iterator[None]:
    original = actors.ledger.card_alarm_ms
    with patch.object(actors.ledger, "card_alarm_ms", lambda lots, holds, *due_ms: original(lots, (), *due_ms)):
        yield
