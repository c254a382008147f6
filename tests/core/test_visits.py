"""Visits and streaks: what counts as one, on which day, and that late scans change nothing by their order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.calendar import add_days
from actors.card import Card
from actors.checkin import decide_check_in
from actors.door_commands import AnnulScan
from actors.doors import decide_annul
from actors.event import Event
from actors.facts import Fact, ScanJudged
from actors.offline import decide_offline
from actors.terms import Gate, Zone
from actors.visits import (
    NO_VISITS,
    VISIT_DAYS_REMEMBERED,
    VISITS_REMEMBERED_MAX,
    Visits,
    admitted,
    taken_back,
    visits_on,
)
from tests.core.build import card as new_card
from tests.core.build import check_in, scope, signed
from tests.core.build import event as new_event
from tests.core.build import tenant as new_tenant

SAIGON = "Asia/Ho_Chi_Minh"
HOUR_MS = 3_600_000


def at(zone: str, *local: int) -> int:
    return int(datetime(*local, tzinfo=ZoneInfo(zone)).astimezone(UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


def after(*came: tuple[int, str] | int) -> Visits:
    """The visits after admissions on these days, at "evt" where no event is named."""
    visits = NO_VISITS
    for one in came:
        day, event_id = (one, "evt") if isinstance(one, int) else one
        changed, _ = admitted(visits, day, event_id)
        visits = changed or visits
    return visits


class Door:
    """A card and an event, and what scans make of them."""

    def __init__(self, zone: str = "UTC", **terms: Any) -> None:
        self.tenant = new_tenant(time_zone=zone)
        self.card: Card = new_card()
        self.event: Event = new_event(**{"reentry": "multiple", **terms})
        self.scans: dict[str, ScanJudged] = {}
        self._position = 0

    def scan(self, at_ms: int, name: str = "", **more: Any) -> ScanJudged:
        command = check_in(name or f"scan {self._position}", **more)
        decide = decide_offline if command.is_offline else decide_check_in
        (fact, *_) = decide(self.tenant, self.card, self.event, command, at_ms)
        assert isinstance(fact, ScanJudged)
        self._take(fact)
        self.scans[fact.request_id] = fact
        return fact

    def annul(self, name: str, at_ms: int) -> Any:
        made = scope(self.tenant, self.card, self.event)
        made._memory.requests.remember(("org", name), self.scans[name], 1)  # type: ignore[attr-defined]
        (fact,) = decide_annul(made, signed(AnnulScan("org", "annul", b"", "event", name)), at_ms)
        self._take(fact)
        return fact

    def _take(self, fact: Fact) -> None:
        self._position += 1
        self.event.apply(fact, self._position)  # type: ignore[arg-type]
        if fact.visits is not None:  # type: ignore[union-attr]
            self.card.apply(fact, self._position)  # type: ignore[arg-type]

    def counts(self, day: int) -> tuple[int, ...]:
        return (self.card.visits.ever, *visits_on(self.card.visits, day), self.card.visits.best_streak)


# --- days, weeks, months ----------------------------------------------------------------------------------------------
# 20260527 is a Wednesday. What is told: ever, today, this week, this month, streak, best streak.


@pytest.mark.parametrize(
    ("came", "day", "told"),
    [
        ((), 20260527, (0, 0, 0, 0, 0, 0)),
        ((20260527,), 20260527, (1, 1, 1, 1, 1, 1)),
        ((20260527, 20260527), 20260527, (1, 1, 1, 1, 1, 1)),
        (((20260527, "a"), (20260527, "b")), 20260527, (2, 2, 2, 2, 1, 1)),
        ((20260527,), 20260528, (1, 0, 1, 1, 1, 1)),
        ((20260527,), 20260529, (1, 0, 1, 1, 0, 1)),
        ((20260527,), 20260531, (1, 0, 1, 1, 0, 1)),
        ((20260527,), 20260601, (1, 0, 0, 0, 0, 1)),
        ((20260531, 20260601), 20260601, (2, 1, 1, 1, 2, 2)),
        ((20260530, 20260601), 20260601, (2, 1, 1, 1, 1, 1)),
        ((20261228, 20270103), 20270103, (2, 1, 2, 1, 1, 1)),
        ((20261231, 20270101), 20270101, (2, 1, 2, 1, 2, 2)),
        ((20280228, 20280229, 20280301), 20280301, (3, 1, 3, 1, 3, 3)),
        ((20270228, 20270301), 20270302, (2, 0, 1, 1, 2, 2)),
        ((20260520, 20260521, 20260522, 20260525, 20260526), 20260526, (5, 1, 2, 5, 2, 3)),
        ((20260527, 20260525, 20260526), 20260527, (3, 1, 3, 3, 3, 3)),
        ((20260601, 20260531), 20260601, (2, 1, 1, 1, 2, 2)),
        ((20260527, 20260520), 20260527, (2, 1, 1, 1, 1, 1)),
        ((20260527, 20260520, 20260520), 20260527, (3, 1, 1, 1, 1, 1)),
    ],
)
def test_what_visits_add_up_to(came: tuple[Any, ...], day: int, told: tuple[int, ...]) -> None:
    visits = after(*came)
    assert (visits.ever, *visits_on(visits, day), visits.best_streak) == told


def test_a_streak_has_no_bound_and_a_gap_ends_it() -> None:
    days = [add_days(20260101, n) for n in range(400)]
    visits = after(*days)
    assert (visits.streak, visits.best_streak) == (400, 400)
    later = after(*days, add_days(days[-1], 2))
    assert (later.streak, later.best_streak, visits_on(later, days[-1])[3]) == (1, 400, 1)
    assert after(*days[:300], *days[301:]).best_streak == 300


def test_a_late_visit_joins_what_lies_before_and_behind_the_days_that_are_remembered() -> None:
    days = [add_days(20260101, n) for n in range(30)]
    visits = after(*days[:26], *days[27:], days[26])
    assert (visits.streak, visits.best_streak) == (30, 30)


# --- time zones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "first", "second", "days"),
    [
        (SAIGON, (2026, 5, 20, 23, 59), (2026, 5, 21, 0, 1), (20260520, 20260521)),
        ("Pacific/Kiritimati", (2026, 5, 20, 23, 59), (2026, 5, 21, 0, 1), (20260520, 20260521)),
        ("Etc/GMT+12", (2026, 5, 20, 23, 59), (2026, 5, 21, 0, 1), (20260520, 20260521)),
        ("Europe/Berlin", (2026, 3, 29, 1, 59), (2026, 3, 29, 3, 0), (20260329, 0)),
        ("Europe/Berlin", (2026, 10, 25, 0, 30), (2026, 10, 25, 23, 30), (20261025, 0)),
        ("America/New_York", (2026, 11, 1, 0, 30), (2026, 11, 2, 0, 30), (20261101, 20261102)),
        ("America/Havana", (2026, 3, 7, 23, 59), (2026, 3, 8, 1, 0), (20260307, 20260308)),
    ],
)
def test_days_are_those_of_the_organisation(zone: str, first: Any, second: Any, days: tuple[int, int]) -> None:
    door = Door(zone)
    assert tuple(door.scan(at(zone, *local)).visit_day for local in (first, second)) == days


def test_an_organisation_that_moves_west_does_not_lose_count() -> None:
    door = Door("Pacific/Auckland")
    door.scan(at("Pacific/Auckland", 2026, 5, 21, 8))
    door.tenant = new_tenant(time_zone="America/Los_Angeles")
    assert door.scan(at("Pacific/Auckland", 2026, 5, 21, 9)).visit_day == 20260520
    assert door.counts(20260520) == (2, 1, 2, 2, 2, 2)


# --- what is a visit --------------------------------------------------------------------------------------------------

NOON = at("UTC", 2026, 5, 27, 12)


def test_coming_back_the_same_day_is_none() -> None:
    door = Door()
    days = [
        door.scan(NOON + n, direction=direction).visit_day for n, direction in enumerate(["entry", "exit", "entry"])
    ]
    assert days == [20260527, 0, 0]
    assert door.counts(20260527) == (1, 1, 1, 1, 1, 1)


def test_who_is_refused_does_not_come() -> None:
    door = Door(capacity=1, inside=1)
    scan = door.scan(NOON)
    assert (scan.reason, scan.visits, scan.visit_day) == ("full", None, 0)


def test_another_zone_is_no_visit() -> None:
    gates = (Gate("gate_1", "", True, "zone_1"), Gate("gate_2", "", True, "zone_2"))
    door = Door(gates=gates, zones=(Zone("zone_1", ""), Zone("zone_2", "")))
    door.scan(NOON, gate_id="gate_1")
    moved = door.scan(NOON + 24 * HOUR_MS, gate_id="gate_2")
    assert moved.details is not None
    assert (moved.details.is_move, moved.visits, moved.visit_day) == (True, None, 0)


def test_a_forced_entry_of_a_suspended_card_is_one() -> None:
    door = Door()
    door.card.state = "suspended"
    assert door.scan(NOON, forced_by="acc_boss").visit_day == 20260527


def test_the_day_of_a_late_scan_is_its_own() -> None:
    door = Door()
    late = door.scan(NOON, is_offline=True, scanned_at_ms=NOON - 48 * HOUR_MS)
    assert late.visit_day == 20260525
    assert door.counts(20260527) == (1, 0, 1, 1, 0, 1)


# --- annulments -------------------------------------------------------------------------------------------------------


def test_an_annulled_visit_is_taken_back_and_can_be_made_again() -> None:
    door = Door()
    door.scan(NOON - 24 * HOUR_MS)
    door.scan(NOON - 24 * HOUR_MS + 1, direction="exit")
    door.scan(NOON, "wrong")
    fact = door.annul("wrong", NOON + 1)
    assert fact.visit_day == 20260527
    assert door.counts(20260527) == (1, 0, 1, 1, 1, 1)
    door.scan(NOON + 2)
    assert door.counts(20260527) == (2, 1, 2, 2, 2, 2)


def test_what_another_admission_confirmed_stands() -> None:
    door = Door()
    door.scan(NOON, "first")
    door.scan(NOON + 5, is_offline=True, scanned_at_ms=NOON - 5)
    fact = door.annul("first", NOON + 6)
    assert (fact.visits, fact.visit_day) == (None, 0)
    assert door.counts(20260527) == (1, 1, 1, 1, 1, 1)


def test_annulling_the_second_admission_takes_no_visit() -> None:
    door = Door()
    door.scan(NOON)
    door.scan(NOON + 1, direction="exit")
    door.scan(NOON + 2, "again")
    assert door.annul("again", NOON + 3).visits is None
    assert door.counts(20260527) == (1, 1, 1, 1, 1, 1)


def test_a_best_streak_that_never_was_is_taken_back() -> None:
    visits = after(20260524, 20260525, 20260526, 20260527)
    back = taken_back(visits, 20260527, "evt")
    assert back is not None
    assert (back.streak, back.best_streak, visits_on(back, 20260528)[3]) == (3, 3, 0)


# --- the order of arrival ---------------------------------------------------------------------------------------------

DAYS = [add_days(20260529, n) for n in range(VISIT_DAYS_REMEMBERED)]
coming = st.lists(st.tuples(st.sampled_from(DAYS), st.sampled_from(("a", "b", "c"))), max_size=12)


@settings(max_examples=300, deadline=None)
@given(before=st.lists(st.integers(0, 20), max_size=15), came=coming, data=st.data())
def test_within_the_days_remembered_order_and_copies_make_no_difference(before: Any, came: Any, data: Any) -> None:
    earlier = [add_days(20260508, n) for n in sorted(before)]
    in_order = after(*earlier, *sorted(came))
    shuffled = data.draw(st.permutations([*came, *came[:3]]))
    assert _counts(after(*earlier, *shuffled)) == _counts(in_order)


def _counts(visits: Visits) -> tuple[Any, ...]:
    seen = [(one.day, one.event_id) for one in visits.recent]
    return (visits.ever, visits.day, *visits_on(visits, visits.day), visits.best_streak, visits.days, seen)


def test_more_events_in_a_week_than_are_remembered_are_counted_all_the_same() -> None:
    visits = after(*((20260527, f"evt_{n:03}") for n in range(VISITS_REMEMBERED_MAX + 10)))
    assert (visits.ever, visits.today, len(visits.recent)) == (60, 60, VISITS_REMEMBERED_MAX)
    assert visits.recent[0].event_id == "evt_010"
