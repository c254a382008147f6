"""What is told late on leaderboards: on its own day until that is frozen, then on the day of now; and what is taken
back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from actors.checkin import decide_check_in
from actors.event import Attendance
from actors.facts import Fact, PointsPosted, ScanJudged
from actors.ledger import LedgerDraft
from actors.offline import decide_offline
from actors.points import decide_reverse
from actors.ports import LedgerEntry
from actors.terms import BoardPart, EarnedDay
from rules.model import Rule
from tests.core.build import card, check_in, event, reverse, scope, tenant

HOUR_MS = 3_600_000
RULE = Rule("rule", 1, "Ten points", "checkin", 10, False)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


class Line:
    """A card, and scanners that hand in their scans late."""

    def __init__(self, zone: str = "UTC", grace_h: int = 24, **terms: Any) -> None:
        self.tenant = tenant(time_zone=zone, rules=(RULE,), board_grace_ms=grace_h * HOUR_MS)
        self.card = card()
        self.event = event(reentry="multiple", capacity=1_000, **terms)
        self.posted: list[PointsPosted] = []
        self._position = 0

    def scan(self, seen: str, told: str) -> ScanJudged:
        """A scan made and told at these times, at an event where the card was never seen; the fact."""
        self.event.attendance.clear()
        command = check_in(f"scan-{self._position}", scanned_at_ms=ms(seen), is_offline=seen != told)
        decide = decide_offline if command.is_offline else decide_check_in
        facts = decide(self.tenant, self.card, self.event, command, ms(told))
        self.take(facts)
        return next(fact for fact in facts if isinstance(fact, ScanJudged))

    def take(self, facts: list[Fact]) -> None:
        for fact in facts:
            self._position += 1
            if isinstance(fact, PointsPosted):
                self.posted.append(fact)
                self.card.apply(fact, self._position)
            elif isinstance(fact, ScanJudged) and fact.visits is not None:
                self.card.apply(fact, self._position)
            if isinstance(fact, PointsPosted | ScanJudged):
                self.event.apply(fact, self._position)

    def reverse(self, entry_seq: int, at: str) -> PointsPosted:
        entry = LedgerEntry(self.posted[entry_seq - 1])
        self.take(decide_reverse(scope(self.tenant, self.card, self.event, entry=entry), reverse(entry_seq), ms(at)))
        return self.posted[-1]

    @property
    def days(self) -> list[tuple[int, int]]:
        return [(fact.day, fact.day_earned_after) for fact in self.posted]


# Zone, grace in hours, when it was scanned, when told, the day that it counts on.
LATE = [
    ("UTC", 24, "2026-03-10T22:00Z", "2026-03-11T03:00Z", 20260310),
    ("UTC", 24, "2026-03-10T22:00Z", "2026-03-11T23:59:59Z", 20260310),
    ("UTC", 24, "2026-03-10T22:00Z", "2026-03-12T00:00Z", 20260312),
    ("UTC", 1, "2026-03-10T22:00Z", "2026-03-11T00:59:59Z", 20260310),
    ("UTC", 1, "2026-03-10T22:00Z", "2026-03-11T01:00Z", 20260311),
    ("UTC", 144, "2026-03-04T12:00Z", "2026-03-10T12:00Z", 20260304),
    ("UTC", 144, "2026-03-03T12:00Z", "2026-03-10T12:00Z", 20260310),
    ("America/New_York", 24, "2026-11-01T12:00Z", "2026-11-03T04:59:59Z", 20261101),  # the day of 25 hours
    ("America/New_York", 24, "2026-11-01T12:00Z", "2026-11-03T05:00Z", 20261103),
    ("Pacific/Kiritimati", 24, "2026-12-31T09:59Z", "2026-12-31T10:00Z", 20261231),
    ("UTC", 48, "2028-02-28T12:00Z", "2028-02-29T12:00Z", 20280228),
]


@pytest.mark.parametrize(("zone", "grace_h", "seen", "told", "day"), LATE)
def test_a_late_scan_counts_on_its_own_day_until_that_is_frozen(
    zone: str, grace_h: int, seen: str, told: str, day: int
) -> None:
    line = Line(zone, grace_h)
    scan = line.scan(seen, told)
    assert line.days == [(day, 10)]
    assert scan.part.day == day
    assert (scan.counts_as is None) == (scan.visit_day == day)


def test_days_are_remembered_beside_each_other() -> None:
    line = Line(grace_h=72)
    line.scan("2026-03-10T12:00Z", "2026-03-10T12:00Z")
    line.scan("2026-03-11T12:00Z", "2026-03-11T12:00Z")
    line.scan("2026-03-09T12:00Z", "2026-03-11T12:01Z")
    line.scan("2026-03-10T13:00Z", "2026-03-11T12:02Z")
    line.scan("2026-03-11T13:00Z", "2026-03-11T13:00Z")
    assert line.days == [(20260310, 10), (20260311, 10), (20260309, 10), (20260310, 20), (20260311, 20)]
    assert (line.card.day, line.card.day_earned) == (20260311, 20)
    assert line.card.past_days == (EarnedDay(20260309, 10), EarnedDay(20260310, 20))
    line.scan("2026-03-17T12:00Z", "2026-03-17T12:00Z")
    assert [one.day for one in line.card.past_days] == [20260310, 20260311]


def test_a_reversal_lowers_the_day_of_the_award_until_that_is_frozen() -> None:
    line = Line(grace_h=24)
    line.scan("2026-03-10T12:00Z", "2026-03-10T12:00Z")
    line.scan("2026-03-10T13:00Z", "2026-03-10T13:00Z")
    line.scan("2026-03-11T12:00Z", "2026-03-11T12:00Z")
    back = line.reverse(1, "2026-03-11T23:59Z")
    assert (back.day, back.day_earned_after, back.earned_after) == (20260310, 10, 20)
    frozen = line.reverse(2, "2026-03-12T00:00Z")
    assert (frozen.day, frozen.day_earned_after, frozen.earned_after) == (20260312, 0, 10)
    assert line.card.earned_on(20260310) == 10


def test_nothing_counts_further_back_than_is_remembered() -> None:
    """An organisation that moves far west (or a clock that was wrong) finds a card whose days are ahead."""
    line = Line(grace_h=144)
    line.scan("2026-03-20T12:00Z", "2026-03-20T12:00Z")
    draft = LedgerDraft(line.tenant, line.card, ms("2026-03-12T12:00Z"))
    assert draft.day == 20260320
    assert LedgerDraft(line.tenant, line.card, ms("2026-03-13T12:00Z")).day == 20260313


CLOSED_MS = ms("2026-03-10T22:00Z")


class TestEvent:
    """An event's own window: frozen after its doors have closed for good."""

    def test_what_is_told_late_counts_there_until_then(self) -> None:
        line = Line(grace_h=6, doors_close_ms=CLOSED_MS)
        scan = line.scan("2026-03-10T21:00Z", "2026-03-11T03:59Z")
        assert (line.posted[0].event_id, line.posted[0].event_earned_after) == ("event", 10)
        assert scan.counts_as is None

    def test_and_at_no_event_from_then_on(self) -> None:
        line = Line(grace_h=6, doors_close_ms=CLOSED_MS)
        scan = line.scan("2026-03-10T21:00Z", "2026-03-11T04:00Z")
        assert (line.posted[0].event_id, line.posted[0].day, line.posted[0].earned_after) == ("", 20260310, 10)
        assert scan.counts_as == BoardPart(20260310, "after:event")

    def test_a_reversal_leaves_it_then(self) -> None:
        line = Line(grace_h=6, doors_close_ms=CLOSED_MS)
        line.scan("2026-03-10T21:00Z", "2026-03-10T21:00Z")
        line.event.attendance["card"] = Attendance(1, True, earned=10)
        assert line.reverse(1, "2026-03-11T03:59Z").event_earned_after == 0
        line.posted.pop()
        line.card.entry_count -= 1
        assert line.reverse(1, "2026-03-11T04:00Z").event_id == ""
