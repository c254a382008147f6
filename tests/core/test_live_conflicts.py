"""Changes of an event's list of conflicts, as its live line tells them."""

from __future__ import annotations

import msgspec
import pytest

from actors import live_conflicts
from actors.door_facts import ScanAnnulled
from actors.event import Event
from actors.facts import EventChanged, Fact, ScanDetails, ScanJudged
from actors.ids import position_of
from actors.live import PUBLISH_INTERVAL_MS, Views
from actors.live_sources import CONFLICTS_PER_UPDATE_MAX
from actors.replies import ConflictChange, EventFeed
from tests.core.build import NOW_MS, check_in, event, tenant
from tests.core.build import card as card_of
from tests.core.test_doors import decide_check_in

MINUTE_MS = 60_000


class Line:
    """A live line of an event, and what a subscriber of it was told."""

    def __init__(self, the_event: Event | None = None) -> None:
        self.event = the_event or event(capacity=50)
        self.views = Views(7)
        self.topic = self.views.event_topic(self.event)
        self.topic.watch(NOW_MS, 0, -1, -1)
        self._seq = 0
        self._now_ms = NOW_MS

    def happens(self, *facts: Fact) -> None:
        """Facts become durable."""
        for fact in facts:
            self._seq += 1
            self.views.durable_seq = self._seq
            self.views.take(fact, position_of(self._seq, 0), {self.event.event_id: self.event})

    def told(self) -> EventFeed:
        """The update that is due."""
        self._now_ms += PUBLISH_INTERVAL_MS
        (digest,) = self.views.due(self._now_ms)
        assert isinstance(digest.update.data, EventFeed)
        return digest.update.data

    def snapshot(self) -> EventFeed:
        """What a new subscriber is told."""
        view, _ = self.topic.watch(self._now_ms, self._seq, -1, -1)
        assert isinstance(view.snapshot, EventFeed)
        return view.snapshot


def scan(scan_id: str, minute: int, direction: str = "entry", card: str = "card1", **details: object) -> ScanJudged:
    """A scan that was let through; of a scanner without a network unless `is_offline` says otherwise."""
    facts = decide_check_in(tenant(), card_of(card), event(capacity=50), check_in(scan_id, card), NOW_MS)
    assert isinstance(facts[0], ScanJudged)
    at_ms = NOW_MS + minute * MINUTE_MS
    told = ScanDetails(**({"is_offline": True} | details))  # type: ignore[arg-type]
    return msgspec.structs.replace(facts[0], at_ms=at_ms, scanned_at_ms=at_ms, direction=direction, details=told)


def online(scan_id: str, minute: int, direction: str = "entry") -> ScanJudged:
    return msgspec.structs.replace(scan(scan_id, minute, direction), details=None)


def annulled(scan_id: str, card: str = "card1") -> ScanAnnulled:
    return ScanAnnulled("org", "annul", b"", NOW_MS, "event", card, scan_id, "dev", 0, 0, 0)


def change(scan_id: str, other_id: str, reason: str = "already_admitted", *, is_resolved: bool) -> ConflictChange:
    return ConflictChange("card1", scan_id, other_id, reason, is_resolved)


def test_a_conflict_that_an_annulment_resolves_is_taken_back() -> None:
    line = Line()
    line.happens(scan("late", 1, conflict="already_admitted"), online("here", 2))
    assert line.told().conflict_changes == (change("here", "late", is_resolved=False),)
    line.happens(annulled("here"))
    update = line.told()
    assert update.conflict_changes == (change("here", "late", is_resolved=True),)
    assert not update.must_look_up
    assert [(one.scan_id, one.is_resolved) for one in line.snapshot().scans] == [("late", True), ("here", True)]


def test_a_conflict_that_a_later_upload_resolves_is_taken_back() -> None:
    line = Line()
    line.happens(online("first", 0), scan("second", 4, conflict="already_admitted"))
    assert line.told().conflict_changes == (change("second", "first", is_resolved=False),)
    line.happens(scan("out", 2, "exit"))
    assert line.told().conflict_changes == (change("second", "first", is_resolved=True),)
    line.happens(scan("again", 5, conflict="already_admitted"))
    assert line.told().conflict_changes == (change("again", "second", is_resolved=False),)
    assert [one.scan_id for one in line.snapshot().scans if one.is_resolved] == ["first"]


def test_an_upload_between_two_sides_makes_two_conflicts_of_one() -> None:
    line = Line()
    line.happens(scan("first", 0), scan("last", 9, conflict="already_admitted"))
    line.told()
    line.happens(scan("between", 5, conflict="already_admitted"))
    assert line.told().conflict_changes == (
        change("last", "first", is_resolved=True),
        change("between", "first", is_resolved=False),
        change("last", "between", is_resolved=False),
    )
    assert not any(one.is_resolved for one in line.snapshot().scans), "both are in another conflict now"


def test_other_terms_of_coming_back_change_the_list() -> None:
    line = Line()
    line.happens(scan("first", 0), scan("second", 4, conflict="already_admitted"))
    line.told()
    for reentry, is_resolved in (("multiple", True), ("none", False)):
        terms = msgspec.structs.replace(line.event.terms, reentry=reentry)
        line.happens(EventChanged("org", "change", b"", NOW_MS, "event", terms))
        update = line.told()
        assert update.conflict_changes == (change("second", "first", is_resolved=is_resolved),)
        assert not update.must_look_up


def test_what_may_have_changed_for_a_card_that_was_there_before_has_to_be_looked_up() -> None:
    before = event(capacity=50)
    before.apply(online("early", 0), position_of(0, 1))
    strict = msgspec.structs.replace(before.terms, reentry="none")
    cases: tuple[tuple[Fact, bool], ...] = (
        (scan("late", 3), True),
        (online("again", 4), False),
        (annulled("early"), True),
        (scan("other", 5, card="card2"), False),
        (annulled("of a card not heard of", "card3"), True),
        (msgspec.structs.replace(scan("ghost", 5, card="card4"), member_id=""), True),
        (EventChanged("org", "change", b"", NOW_MS, "event", strict), True),
    )
    line = Line(before)
    for fact, must_look_up in cases:
        line.happens(fact)
        update = line.told()
        assert (update.must_look_up, update.conflict_changes) == (must_look_up, ()), fact


def test_a_session_has_conflicts_of_its_own() -> None:
    line = Line()
    line.happens(scan("first", 0, session_id="day1"), scan("second", 4, session_id="day2"))
    assert line.told().conflict_changes == ()
    line.happens(scan("third", 5, session_id="day1"))
    assert line.told().conflict_changes == (change("third", "first", is_resolved=False),)


def test_a_reason_of_its_own_needs_no_other_scan() -> None:
    line = Line()
    line.happens(scan("late", 0, conflict="card_revoked"))
    assert line.told().conflict_changes == (change("late", "", "card_revoked", is_resolved=False),)


def test_changes_are_told_in_portions() -> None:
    line = Line()
    for number in range(CONFLICTS_PER_UPDATE_MAX + 5):
        line.happens(scan(f"s{number}", number, card=f"card{number}", conflict="card_revoked"))
    assert [len(line.told().conflict_changes) for _ in range(2)] == [CONFLICTS_PER_UPDATE_MAX, 5]
    assert line.views.due(NOW_MS + 9 * MINUTE_MS) == []


def test_beyond_what_is_remembered_the_list_has_to_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_conflicts, "HEARD_SCANS_MAX", 2)
    line = Line()
    line.happens(scan("first", 0), scan("second", 4))
    assert line.told().conflict_changes == (change("second", "first", is_resolved=False),)
    for number in range(2):
        line.happens(scan(f"more{number}", 5 + number, card="card2"))
        update = line.told()
        assert (update.conflict_changes, update.must_look_up) == ((), True)


def test_beyond_what_may_wait_the_list_has_to_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_conflicts, "CHANGES_WAITING_MAX", 1)
    line = Line()
    for number in range(2):
        line.happens(scan(f"s{number}", number, card=f"card{number}", conflict="card_revoked"))
    update = line.told()
    assert (len(update.conflict_changes), update.must_look_up) == (1, True)
