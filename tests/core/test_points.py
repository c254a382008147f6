"""Points: awards, redemptions, reversals, lots, expiry, overdraft; tables, and a simple ledger to compare with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.card import Card
from actors.event import Attendance
from actors.facts import CommandRefused, Fact, PointsPosted
from actors.ledger import BALANCE_MAX
from actors.points import decide_award, decide_redeem, decide_reverse
from actors.ports import LedgerEntry
from actors.terms import LOTS_PER_CARD_MAX, POINTS_PER_ENTRY_MAX, Lot
from tests.core.build import NOW_MS, award, card, event, redeem, reverse, scope, tenant


class Account:
    """A card with its ledger, decided on and applied one command after the other."""

    def __init__(self, overdraft: int = 0, time_zone: str = "UTC") -> None:
        self.card: Card = card()
        self.entries: list[PointsPosted] = []
        self.tenant = tenant(overdraft_max=overdraft, time_zone=time_zone)
        self._position = 0

    def take(self, facts: list[Fact]) -> list[Fact]:
        for fact in facts:
            if isinstance(fact, PointsPosted):
                self._position += 1
                self.card.apply(fact, self._position)
                self.entries.append(fact)
        return facts

    def award(self, amount: int, expires_at_ms: int = 0, at_ms: int = NOW_MS) -> list[Fact]:
        return self.take(decide_award(scope(self.tenant, self.card), award(amount, "a", "card", expires_at_ms), at_ms))

    def redeem(self, amount: int, at_ms: int = NOW_MS) -> list[Fact]:
        return self.take(decide_redeem(scope(self.tenant, self.card), redeem(amount), at_ms))

    def reverse(self, entry_seq: int, at_ms: int = NOW_MS) -> list[Fact]:
        found = self.entries[entry_seq - 1] if 1 <= entry_seq <= len(self.entries) else None
        is_reversed = any(entry.reverses == entry_seq for entry in self.entries)
        entry = LedgerEntry(found, "reverse" if is_reversed else "") if found else None
        return self.take(decide_reverse(scope(self.tenant, self.card, entry=entry), reverse(entry_seq), at_ms))

    @property
    def left(self) -> dict[int, int]:
        return {lot.lot: lot.remaining for lot in self.card.lots}


def reason_of(facts: list[Fact]) -> str:
    fact = facts[0]
    return fact.reason if isinstance(fact, CommandRefused) else ""


@pytest.mark.parametrize(
    ("amount", "expires_at_ms", "state", "balance", "lots", "reason"),
    [
        (1, 0, "active", 0, 0, ""),
        (0, 0, "active", 0, 0, "amount_invalid"),
        (-1, 0, "active", 0, 0, "amount_invalid"),
        (POINTS_PER_ENTRY_MAX, 0, "active", 0, 0, ""),
        (POINTS_PER_ENTRY_MAX + 1, 0, "suspended", 0, 0, "amount_invalid"),
        (1, NOW_MS, "suspended", 0, 0, "expiry_invalid"),
        (1, NOW_MS + 1, "active", 0, 0, ""),
        (1, 0, "suspended", BALANCE_MAX, 0, "card_not_active"),
        (1, 0, "revoked", 0, 0, "card_not_active"),
        (1, 0, "active", BALANCE_MAX, 0, "limit_reached"),
        (1, 0, "active", BALANCE_MAX - 1, 0, ""),
        (1, NOW_MS + 1, "active", 0, LOTS_PER_CARD_MAX, "limit_reached"),
        (1, NOW_MS + 1, "active", 0, LOTS_PER_CARD_MAX - 1, ""),
        (1, 0, "active", 0, LOTS_PER_CARD_MAX, ""),
    ],
)
def test_award(amount: int, expires_at_ms: int, state: Any, balance: int, lots: int, reason: str) -> None:
    the_card = card(state=state, balance=balance, lots=tuple(Lot(n + 1, 1, NOW_MS + 9) for n in range(lots)))
    facts = decide_award(scope(tenant(), the_card), award(amount, expires_at_ms=expires_at_ms), NOW_MS)
    assert reason_of(facts) == reason


@pytest.mark.parametrize(
    ("amount", "state", "balance", "overdraft", "reason"),
    [
        (5, "active", 5, 0, ""),
        (6, "active", 5, 0, "insufficient_points"),
        (6, "active", 5, 1, ""),
        (7, "active", 5, 1, "insufficient_points"),
        (0, "suspended", 5, 0, "amount_invalid"),
        (1, "suspended", 0, 0, "card_not_active"),
        (1, "active", -3, 3, "insufficient_points"),
    ],
)
def test_redeem(amount: int, state: Any, balance: int, overdraft: int, reason: str) -> None:
    the_card = card(state=state, balance=balance)
    facts = decide_redeem(scope(tenant(overdraft_max=overdraft), the_card), redeem(amount), NOW_MS)
    assert reason_of(facts) == reason


def test_the_lot_that_expires_soonest_is_spent_first_then_the_oldest_then_the_pool() -> None:
    account = Account()
    account.award(10)
    account.award(10, NOW_MS + 200)
    account.award(10, NOW_MS + 100)
    account.award(10, NOW_MS + 100)
    account.redeem(15)
    assert account.left == {2: 10, 4: 5}
    account.redeem(20)
    assert (account.left, account.card.balance, account.card.pool) == ({}, 5, 5)
    assert {taking.lot: taking.amount for taking in account.entries[-1].takings} == {4: 5, 2: 10, 0: 5}


def test_a_lapsed_lot_is_posted_as_expired_before_anything_else() -> None:
    account = Account()
    account.award(10, NOW_MS + 100)
    account.redeem(4)
    assert account.card.available(NOW_MS + 99) == 6
    assert account.card.available(NOW_MS + 100) == 0
    assert reason_of(account.redeem(1, NOW_MS + 100)) == "insufficient_points"
    facts = account.award(1, at_ms=NOW_MS + 100)
    assert [(fact.kind, fact.amount, fact.cause) for fact in facts if isinstance(fact, PointsPosted)] == [
        ("expire", -6, "expiry:1"),
        ("award", 1, "request"),
    ]
    assert account.left == {}


def test_a_reversed_redemption_gives_back_to_its_lots() -> None:
    account = Account()
    account.award(10, NOW_MS + 100)
    account.award(10)
    account.redeem(15)
    account.reverse(3)
    assert (account.left, account.card.balance, account.card.pool) == ({1: 10}, 20, 10)
    assert account.card.lots[0].expires_at_ms == NOW_MS + 100


def test_what_comes_back_to_a_lapsed_lot_lapses_at_once() -> None:
    account = Account()
    account.award(10, NOW_MS + 100)
    account.redeem(10)
    account.reverse(2, NOW_MS + 100)
    assert [entry.kind for entry in account.entries] == ["award", "redeem", "reverse", "expire"]
    assert (account.card.balance, account.left) == (0, {})


@pytest.mark.parametrize(("overdraft", "taken", "short_by"), [(0, 4, 6), (3, 7, 3), (6, 10, 0), (9, 10, 0)])
def test_a_reversed_award_takes_what_may_be_taken(overdraft: int, taken: int, short_by: int) -> None:
    account = Account(overdraft)
    account.award(10)
    account.redeem(6)
    account.reverse(1)
    last = account.entries[-1]
    assert (-last.amount, last.short_by, last.earned_after) == (taken, short_by, 0)
    assert account.card.balance == 4 - taken >= -overdraft


def test_a_reversed_award_takes_from_its_own_lot_first() -> None:
    account = Account()
    account.award(10, NOW_MS + 100)
    account.award(10, NOW_MS + 50)
    account.reverse(1)
    assert account.left == {2: 10}


def test_a_reversed_check_in_award_leaves_the_events_board_too() -> None:
    account = Account()
    account.award(10)
    original = PointsPosted(
        "org", "", b"", NOW_MS, "card", "Ann", 1, "award", 10, 10, "checkin:x", "", "r:1", "event", 20270115, 10, 10, 10
    )
    the_event = event(attendance={"card": Attendance(True, 1, earned=10)})
    cited = scope(account.tenant, account.card, the_event, entry=LedgerEntry(original))
    (fact,) = decide_reverse(cited, reverse(1), NOW_MS)
    assert isinstance(fact, PointsPosted)
    assert (fact.event_id, fact.event_earned_after) == ("event", 0)


@pytest.mark.parametrize(
    ("entry_seq", "reason"),
    [(0, "entry_unknown"), (9, "entry_unknown"), (4, "entry_not_reversible"), (3, "already_reversed")],
)
def test_what_cannot_be_reversed(entry_seq: int, reason: str) -> None:
    account = Account()
    account.award(5, NOW_MS + 1)  # 1
    account.award(5)  # 2
    account.redeem(1, NOW_MS)  # 3
    account.reverse(3, NOW_MS + 1)  # 4: expiry of lot 1 … then 5: the reversal
    assert [entry.kind for entry in account.entries][3] == "expire"
    assert reason_of(account.reverse(entry_seq, NOW_MS + 2)) == reason


def test_a_fact_that_was_applied_changes_nothing() -> None:
    account = Account()
    account.award(10)
    account.award(10)
    for position, entry in enumerate(account.entries, 1):
        account.card.apply(entry, position)
    assert (account.card.balance, account.card.entry_count, account.card.position) == (20, 2, 2)


def test_scores_count_per_day_also_when_the_organisation_moves_west() -> None:
    account = Account(time_zone="Asia/Ho_Chi_Minh")
    noon_ms = 1_800_014_400_000  # 12:00 UTC, 19:00 in Ho Chi Minh City
    account.award(10, at_ms=noon_ms)
    account.award(5, at_ms=noon_ms + 6 * 3_600_000)
    assert [(entry.day, entry.day_earned_after) for entry in account.entries] == [(20270115, 10), (20270116, 5)]
    account.tenant = tenant(time_zone="America/New_York")
    account.award(2, at_ms=noon_ms + 7 * 3_600_000)
    assert (account.entries[-1].day, account.entries[-1].day_earned_after) == (20270115, 12)
    assert (account.card.day, account.card.day_earned) == (20270116, 5)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("award"), st.integers(1, 20), st.sampled_from([0, 3, 7, 15])),
        st.tuples(st.just("redeem"), st.integers(1, 30), st.just(0)),
        st.tuples(st.just("reverse"), st.integers(1, 12), st.just(0)),
    ),
    max_size=15,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([0, 10]))
def test_a_ledger_always_adds_up(steps: list[tuple[str, int, int]], overdraft: int) -> None:
    account = Account(overdraft)
    for number, (kind, amount, life) in enumerate(steps):
        at_ms = NOW_MS + number
        if kind == "award":
            account.award(amount, at_ms + life if life else 0, at_ms)
        elif kind == "redeem":
            may = account.card.available(at_ms) + overdraft >= amount
            assert bool(reason_of(account.redeem(amount, at_ms)[-1:])) != may
        else:
            account.reverse(amount, at_ms)
        card_now = account.card
        total = 0
        for seq, entry in enumerate(account.entries, 1):
            total += entry.amount
            assert (entry.entry_seq, entry.balance_after) == (seq, total)
            assert total >= -overdraft
        assert card_now.balance == total == card_now.pool + sum(lot.remaining for lot in card_now.lots)
        assert all(lot.remaining > 0 for lot in card_now.lots)
        assert card_now.pool >= -overdraft
        reversed_entries = [entry.reverses for entry in account.entries if entry.reverses]
        assert len(reversed_entries) == len(set(reversed_entries))
        for lot_id in {entry.lots[0].lot for entry in account.entries if entry.kind == "award" and entry.lots}:
            awarded = account.entries[lot_id - 1].amount
            taken = sum(t.amount for entry in account.entries for t in entry.takings if t.lot == lot_id)
            assert awarded - taken == account.left.get(lot_id, 0)
