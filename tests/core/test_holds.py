"""Holds, pending points, transfers, wallets and the organisation's accounts: refusals by name, and what time does."""

from __future__ import annotations

from typing import Any

import pytest

from actors.accounts import contra_of
from actors.card import Card
from actors.commands import AwardPoints, Command, RedeemPoints, ReversePoints
from actors.facts import AlarmSet, CommandRefused, Fact, PointsPosted
from actors.handlers import HANDLERS
from actors.ledger import BALANCE_MAX
from actors.points import decide_wake_card
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.ports import LedgerEntry
from actors.seldom import with_seldom
from actors.terms import (
    FAR_MS,
    HOLD_MS_DEFAULT,
    HOLD_MS_MAX,
    HOLDS_PER_CARD_MAX,
    LOTS_PER_CARD_MAX,
    POINTS_PER_ENTRY_MAX,
    TRANSFER_ENTRIES_MAX,
    Hold,
    Lot,
)
from tests.core.build import NOW_MS, card, scope, signed, tenant

HEAD = ("org", "request", b"", "card")


class Bank:
    """An organisation with two cards; what is asked is decided and applied at once."""

    def __init__(self, **settings: Any) -> None:
        self.tenant = tenant(**settings)
        self.cards: dict[str, Card] = {"card": card(), "card2": card("card2")}
        self.entries: dict[str, list[PointsPosted]] = {"card": [], "card2": []}
        self.alarms: dict[str, int] = {}
        self._position = 0

    @property
    def card(self) -> Card:
        return self.cards["card"]

    def ask(self, command: Command, at_ms: int = NOW_MS) -> str:
        """The reason of the refusal, "" if done."""
        cited = getattr(command, "entry_seq", 0)
        entries = self.entries["card"]
        entry = None
        if 1 <= cited <= len(entries):
            ended = next((one.kind for one in entries if one.reverses == cited), "")
            entry = LedgerEntry(entries[cited - 1], ended)
        made = scope(self.tenant, *self.cards.values(), entry=entry)
        made.actors["card"] = self.card
        return self.take(HANDLERS[type(command)].decide(made, signed(command), at_ms))

    def take(self, facts: list[Fact]) -> str:
        for fact in facts:
            self._position += 1
            if isinstance(fact, PointsPosted):
                self.cards[fact.card_id].apply(fact, self._position)
                self.tenant.apply(fact, self._position)
                self.entries[fact.card_id].append(fact)
            elif isinstance(fact, AlarmSet):
                self.alarms[fact.entity_id] = fact.wake_ms
            else:
                assert isinstance(fact, CommandRefused)
                return fact.reason
        assert sum(self.tenant.accounts.values()) + sum(one.balance + one.wallet for one in self.cards.values()) == 0
        return ""

    def wake(self, at_ms: int) -> None:
        self.take(decide_wake_card(scope(self.tenant, self.card), self.card, at_ms))

    def story(self) -> list[tuple[str, int, str]]:
        return [(entry.kind, entry.amount, entry.cause) for entry in self.entries["card"]]


def bank(points: int = 20, wallet: int = 0, **settings: Any) -> Bank:
    made = Bank(**settings)
    if points:
        made.ask(AwardPoints(*HEAD, points))
    if wallet:
        made.ask(AwardPoints(*HEAD, wallet, account="wallet"))
    return made


def test_a_hold_counts_at_once_and_what_is_not_captured_comes_back() -> None:
    made = bank()
    assert made.ask(HoldPoints(*HEAD, 15)) == ""
    assert (made.card.balance, made.card.available(NOW_MS), made.card.held("points", NOW_MS)) == (20, 5, 15)
    assert made.alarms["card"] == NOW_MS + HOLD_MS_DEFAULT
    assert made.ask(RedeemPoints(*HEAD, 6)) == "insufficient_points"
    assert made.ask(CapturePoints(*HEAD, 2, 10)) == ""
    assert (made.card.balance, made.card.available(NOW_MS), made.card.holds) == (10, 10, ())
    assert made.alarms["card"] == 0


@pytest.mark.parametrize(
    ("end", "at_ms", "reason"),
    [
        (CapturePoints(*HEAD, 2), NOW_MS, "hold_captured"),
        (ReleasePoints(*HEAD, 2), NOW_MS, "hold_released"),
        (None, NOW_MS + HOLD_MS_DEFAULT, "hold_lapsed"),
    ],
)
@pytest.mark.parametrize("is_posted", [True, False])
def test_a_hold_ends_once(end: Command | None, at_ms: int, reason: str, is_posted: bool) -> None:
    made = bank()
    made.ask(HoldPoints(*HEAD, 15))
    if end is not None:
        assert made.ask(end) == ""
    elif is_posted:
        made.wake(at_ms)
    assert made.ask(CapturePoints(*HEAD, 2), at_ms) == reason
    assert made.ask(ReleasePoints(*HEAD, 2), at_ms) == reason


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (HoldPoints(*HEAD, 0), "amount_invalid"),
        (HoldPoints(*HEAD, POINTS_PER_ENTRY_MAX + 1), "amount_invalid"),
        (HoldPoints(*HEAD, 21), "insufficient_points"),
        (HoldPoints(*HEAD, 101, account="wallet"), "insufficient_funds"),
        (HoldPoints(*HEAD, 1, "", NOW_MS), "expiry_invalid"),
        (HoldPoints(*HEAD, 1, "", NOW_MS + HOLD_MS_MAX + 1), "expiry_invalid"),
        (HoldPoints(*HEAD, 1, "", NOW_MS + HOLD_MS_MAX), ""),
        (CapturePoints(*HEAD, 1), "hold_unknown"),
        (CapturePoints(*HEAD, 9), "hold_unknown"),
        (ReleasePoints(*HEAD, 0), "hold_unknown"),
        (ConfirmPoints(*HEAD, 9), "entry_unknown"),
        (ConfirmPoints(*HEAD, 1), "entry_not_pending"),
        (RedeemPoints(*HEAD, 101, account="wallet"), "insufficient_funds"),
        (RedeemPoints(*HEAD, 100, account="wallet"), ""),
        (AwardPoints(*HEAD, 1, "", NOW_MS + 9, account="wallet"), "expiry_invalid"),
        (AwardPoints(*HEAD, BALANCE_MAX, account="wallet"), "amount_invalid"),
        (AwardPoints(*HEAD, 1, "", 0, NOW_MS), "pending_invalid"),
        (AwardPoints(*HEAD, 1, "", NOW_MS + 9, NOW_MS + 9), "pending_invalid"),
        (AwardPoints(*HEAD, 1, "", NOW_MS + 9, NOW_MS + 8), ""),
        (AwardPoints(*HEAD, 1, "", NOW_MS + 9, FAR_MS), ""),
        (TransferPoints(*HEAD, "card2", 0), "amount_invalid"),
        (TransferPoints(*HEAD, "card", 1), "transfer_to_itself"),
        (TransferPoints(*HEAD, "card2", 21), "insufficient_points"),
        (TransferPoints(*HEAD, "card2", 101, account="wallet"), "insufficient_funds"),
    ],
)
def test_refusals(command: Command, reason: str) -> None:
    made = bank(20, 100, overdraft_max=5)
    assert made.ask(command) == reason


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (HoldPoints(*HEAD, 1), "card_not_active"),
        (AwardPoints(*HEAD, 1, account="wallet"), "card_not_active"),
        (RedeemPoints(*HEAD, 1, account="wallet"), "card_not_active"),
        (TransferPoints(*HEAD, "card2", 1), "card_not_active"),
        (ConfirmPoints(*HEAD, 3), ""),
        (CapturePoints(*HEAD, 4), ""),
        (ReleasePoints(*HEAD, 4), ""),
    ],
)
def test_what_begins_needs_an_active_card_and_what_ends_does_not(command: Command, reason: str) -> None:
    made = bank(20, 100)
    made.ask(AwardPoints(*HEAD, 5, "", 0, FAR_MS))
    made.ask(HoldPoints(*HEAD, 5))
    made.card.state = "suspended"
    assert made.ask(command) == reason


def test_a_transfer_needs_both_cards_active() -> None:
    made = bank()
    made.cards["card2"].state = "revoked"
    assert made.ask(TransferPoints(*HEAD, "card2", 1)) == "card_not_active"


def test_limits_of_holds_lots_and_balances() -> None:
    made = bank()
    holds = tuple(Hold(90 + n, "wallet", 0, NOW_MS + 5, ()) for n in range(HOLDS_PER_CARD_MAX))
    made.card.seldom = with_seldom(made.card.seldom, holds=holds)
    assert made.ask(HoldPoints(*HEAD, 1)) == "limit_reached"
    made = bank()
    made.card.wallet = BALANCE_MAX
    assert made.ask(AwardPoints(*HEAD, 1, account="wallet")) == "limit_reached"
    made = bank()
    made.cards["card2"].balance = BALANCE_MAX
    assert made.ask(TransferPoints(*HEAD, "card2", 1)) == "limit_reached"
    made = bank()
    made.card.lots = tuple(Lot(90 + n, 0, FAR_MS, FAR_MS) for n in range(LOTS_PER_CARD_MAX))
    assert made.ask(AwardPoints(*HEAD, 1, "", 0, FAR_MS)) == "limit_reached"


def test_points_transferred_keep_their_expiry_and_too_many_expiries_do_not_fit() -> None:
    made = bank(0)
    for n in range(TRANSFER_ENTRIES_MAX + 1):
        made.ask(AwardPoints(*HEAD, 1, "", NOW_MS + 1 + n))
    assert made.ask(TransferPoints(*HEAD, "card2", TRANSFER_ENTRIES_MAX + 1)) == "limit_reached"
    assert made.ask(TransferPoints(*HEAD, "card2", 2)) == ""
    assert [(lot.remaining, lot.expires_at_ms) for lot in made.cards["card2"].lots] == [
        (1, NOW_MS + 1),
        (1, NOW_MS + 2),
    ]
    assert made.cards["card2"].earned == 0
    assert made.tenant.accounts["points:transferred"] == 0
    assert made.ask(ReversePoints(*HEAD, TRANSFER_ENTRIES_MAX + 2)) == "entry_not_reversible"


def test_held_points_do_not_lapse_and_what_comes_back_late_lapses_at_once() -> None:
    made = bank(0)
    made.ask(AwardPoints(*HEAD, 10, "", NOW_MS + 100))
    made.ask(HoldPoints(*HEAD, 8, "", NOW_MS + 500))
    made.wake(NOW_MS + 100)
    assert (made.card.balance, made.card.available(NOW_MS + 100)) == (8, 0)
    assert made.ask(CapturePoints(*HEAD, 2, 5), NOW_MS + 200) == ""
    assert made.story()[2:] == [("expire", -2, "expiry:1"), ("capture", -5, "hold:2"), ("expire", -3, "expiry:1")]


@pytest.mark.parametrize(("grace_ms", "balance"), [(0, 0), (50, 5)])
def test_a_reversed_capture_goes_back_to_its_lots_with_the_grace_of_the_organisation(
    grace_ms: int, balance: int
) -> None:
    made = bank(0, lapsed_grace_ms=grace_ms)
    made.ask(AwardPoints(*HEAD, 5, "", NOW_MS + 100))
    made.ask(HoldPoints(*HEAD, 5))
    made.ask(CapturePoints(*HEAD, 2))
    assert made.ask(ReversePoints(*HEAD, 3), NOW_MS + 150) == ""
    assert made.card.balance == balance == made.card.available(NOW_MS + 150)
    assert made.card.available(NOW_MS + 200) == 0


def test_pending_points_show_but_cannot_be_spent_until_their_time_or_until_confirmed() -> None:
    made = bank(0)
    made.ask(AwardPoints(*HEAD, 5, "", 0, NOW_MS + 100))
    made.ask(AwardPoints(*HEAD, 7, "", 0, FAR_MS))
    assert (made.card.balance, made.card.pending(NOW_MS), made.card.available(NOW_MS)) == (12, 12, 0)
    assert made.alarms == {}  # nothing has to be posted when a time comes
    assert (made.card.pending(NOW_MS + 100), made.card.available(NOW_MS + 100)) == (7, 5)
    assert made.ask(ConfirmPoints(*HEAD, 2)) == ""
    assert made.ask(ConfirmPoints(*HEAD, 2)) == "entry_not_pending"
    assert made.card.available(NOW_MS) == 7
    made.ask(AwardPoints(*HEAD, 1), NOW_MS + 100)
    assert (made.card.lots, made.card.pool) == ((), 13)


def test_a_reversal_takes_its_own_lot_then_active_points_then_pending_then_says_what_is_short() -> None:
    made = bank(0)
    made.ask(AwardPoints(*HEAD, 10))
    made.ask(AwardPoints(*HEAD, 4, "", NOW_MS + 100))
    made.ask(AwardPoints(*HEAD, 3, "", 0, FAR_MS))
    made.ask(RedeemPoints(*HEAD, 8))  # 4 of the lot, 4 without expiry: 6 left, and 3 pending
    made.ask(ReversePoints(*HEAD, 1))
    last = made.entries["card"][-1]
    assert (last.amount, last.short_by) == (-9, 1)
    assert {taking.lot: taking.amount for taking in last.takings} == {3: 3, 0: 6}


def test_what_is_held_is_out_of_a_reversals_reach() -> None:
    made = bank(10, 100)
    made.ask(HoldPoints(*HEAD, 6))
    made.ask(HoldPoints(*HEAD, 70, account="wallet"))
    made.ask(ReversePoints(*HEAD, 1))
    made.ask(ReversePoints(*HEAD, 2))
    assert [(entry.amount, entry.short_by) for entry in made.entries["card"][-2:]] == [(-4, 6), (-30, 70)]
    assert (made.card.balance, made.card.wallet) == (6, 70)


TIMES = (NOW_MS + 100, NOW_MS + 150, NOW_MS + 200, NOW_MS + 300)


@pytest.mark.parametrize("looks", range(1 << len(TIMES)))
def test_nothing_depends_on_when_the_alarm_is_looked_at(looks: int) -> None:
    """Whichever of these times somebody looks at: the same entries come about, in the same order."""
    made = bank(3)
    made.ask(AwardPoints(*HEAD, 10, "", NOW_MS + 100))
    made.ask(AwardPoints(*HEAD, 10, "", NOW_MS + 200))
    made.ask(HoldPoints(*HEAD, 6, "", NOW_MS + 150))
    made.ask(HoldPoints(*HEAD, 8, "", NOW_MS + 250))
    for number, at_ms in enumerate(TIMES):
        if looks >> number & 1:
            made.wake(at_ms)
    assert made.card.available(NOW_MS + 400) == 3
    made.ask(AwardPoints(*HEAD, 1), NOW_MS + 400)
    assert made.story()[5:] == [
        ("lapse", 0, "hold:4"),
        ("expire", -6, "expiry:2"),
        ("expire", -6, "expiry:3"),
        ("lapse", 0, "hold:5"),
        ("expire", -4, "expiry:2"),
        ("expire", -4, "expiry:3"),
        ("award", 1, "request"),
    ]


def test_every_kind_of_entry_that_moves_an_amount_has_an_account() -> None:
    for kind in ("award", "redeem", "capture", "expire", "transfer"):
        assert contra_of("points", kind, 1).startswith("points:")  # type: ignore[arg-type]
    for kind in ("top_up", "pay", "capture", "transfer"):
        assert contra_of("wallet", kind, 1).startswith("wallet:")  # type: ignore[arg-type]
    assert contra_of("points", "reverse", -1) == contra_of("points", "award", 1)
    assert contra_of("points", "reverse", 1) == contra_of("points", "redeem", -1)
