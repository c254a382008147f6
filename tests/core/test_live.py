"""Live topics: what is published when, offsets, coming back, and what is put away."""

from __future__ import annotations

import pytest

from actors import live_sources
from actors.board import Board, board_over
from actors.checkin import decide_check_in
from actors.door_facts import EveryoneLeft
from actors.event import Event
from actors.facts import PointsPosted, ScanJudged
from actors.ids import position_of
from actors.limits import Limits
from actors.live import PUBLISH_INTERVAL_MS, TIDY_INTERVAL_MS, UPDATES_KEPT, WATCHED_MS, Topic, Views
from actors.live_sources import CONFLICTS_PER_UPDATE_MAX, FEED_SCANS_MAX, BoardSource
from actors.offline import decide_offline
from actors.replies import EventFeed, FirstSeen
from actors.terms import EventTerms, Gate
from tests.core.build import NOW_MS, card, check_in, event, tenant


def scan(the_event: Event, number: int) -> ScanJudged:
    """The next scan, applied to the event."""
    facts = decide_check_in(
        tenant(), card(f"card{number}"), the_event, check_in(f"scan{number}", f"card{number}"), NOW_MS
    )
    assert isinstance(facts[0], ScanJudged)
    the_event.apply(facts[0], position_of(number, 0))
    return facts[0]


def show(views: Views, fact: ScanJudged, number: int, the_event: Event | None) -> None:
    views.durable_seq = number
    views.take_scan(fact, position_of(number, 0), the_event)


def watched(the_event: Event) -> tuple[Views, Topic]:
    views = Views(7)
    topic = views.event_topic(the_event)
    view, digest = topic.watch(NOW_MS, 0, -1, -1)
    assert (view.offset, view.recovered, digest) == (0, False, None)
    return views, topic


def test_updates_come_at_most_once_in_an_interval_with_the_scans_since() -> None:
    the_event = event(capacity=50)
    views, _ = watched(the_event)
    show(views, scan(the_event, 1), 1, the_event)
    (first,) = views.due(NOW_MS)
    show(views, scan(the_event, 2), 2, the_event)
    show(views, scan(the_event, 3), 3, the_event)
    assert views.due(NOW_MS + PUBLISH_INTERVAL_MS - 1) == []
    (second,) = views.due(NOW_MS + PUBLISH_INTERVAL_MS)
    assert views.due(NOW_MS + 2 * PUBLISH_INTERVAL_MS) == []
    assert [digest.update.offset for digest in (first, second)] == [1, 2]
    assert isinstance(second.update.data, EventFeed)
    assert [line.scan_id for line in second.update.data.scans] == ["scan2", "scan3"]
    assert second.update.data.inside == 3


def test_everybodys_leaving_is_told() -> None:
    the_event = event(capacity=50)
    views, _ = watched(the_event)
    show(views, scan(the_event, 1), 1, the_event)
    views.due(NOW_MS)
    left = EveryoneLeft("org", "", b"", NOW_MS, "event", NOW_MS, 1)
    the_event.apply(left, position_of(2, 0))
    views.durable_seq = 2
    views.take(left, position_of(2, 0), {"event": the_event})
    (update,) = views.due(NOW_MS + PUBLISH_INTERVAL_MS)
    assert isinstance(update.update.data, EventFeed)
    assert (update.update.data.inside, update.update.data.admitted) == (0, 1)


def test_only_watched_topics_are_published_and_a_look_catches_up() -> None:
    the_event = event(capacity=50)
    views, topic = watched(the_event)
    show(views, scan(the_event, 1), 1, the_event)
    late_ms = NOW_MS + WATCHED_MS + 1
    assert views.due(late_ms) == []
    view, digest = topic.watch(late_ms, views.durable_seq, 7, 0)
    assert digest is not None
    assert view.recovered
    assert [update.offset for update in view.missed] == [1]


def test_who_comes_back_gets_what_was_missed_or_a_snapshot() -> None:
    the_event = event(capacity=1_000)
    views, topic = watched(the_event)
    count = UPDATES_KEPT + 5
    for number in range(1, count + 1):
        show(views, scan(the_event, number), number, the_event)
        views.due(NOW_MS + number * PUBLISH_INTERVAL_MS)
    for since, missed in ((count, []), (count - 2, [count - 1, count]), (5, list(range(6, count + 1)))):
        view, _ = topic.watch(NOW_MS, count, 7, since)
        assert (view.recovered, [update.offset for update in view.missed]) == (True, missed)
    for epoch, since in ((7, 4), (6, count), (7, count + 1), (-1, -1)):
        view, _ = topic.watch(NOW_MS, count, epoch, since)
        assert (view.recovered, view.offset) == (False, count)
        assert isinstance(view.snapshot, EventFeed)
        assert len(view.snapshot.scans) == FEED_SCANS_MAX


def test_a_feed_that_begins_ahead_of_the_journal_is_not_published_before_it_is_durable() -> None:
    the_event = event(capacity=50)
    views = Views(7)
    first = scan(the_event, 1)
    second = scan(the_event, 2)
    topic = views.event_topic(the_event)
    topic.watch(NOW_MS, 0, -1, -1)
    show(views, first, 1, the_event)
    assert views.due(NOW_MS) == []
    view, digest = topic.watch(NOW_MS, 1, -1, -1)
    assert digest is None
    assert isinstance(view.snapshot, EventFeed)
    assert view.snapshot.inside == 2, "what it began with has the older scan in it"
    show(views, second, 2, the_event)
    (digest,) = views.due(NOW_MS)
    assert isinstance(digest.update.data, EventFeed)
    assert (digest.update.data.inside, len(digest.update.data.scans)) == (2, 2)


def conflicts(the_event: Event, count: int) -> list[ScanJudged]:
    """Cards that came in at gate_a, and later are heard of from a scanner without a network at another time."""
    found = []
    for number in range(1, count + 1):
        the_card = card(f"card{number}")
        entry = check_in(f"in{number}", the_card.card_id, gate_id="gate_a")
        late = check_in(f"late{number}", the_card.card_id, is_offline=True, scanned_at_ms=NOW_MS + 5_000)
        for decide, command, at_ms in ((decide_check_in, entry, NOW_MS), (decide_offline, late, NOW_MS + 9_000)):
            fact = next(fact for fact in decide(tenant(), the_card, the_event, command, at_ms))
            assert isinstance(fact, ScanJudged)
            the_event.apply(fact, position_of(2 * number + command.is_offline, 0))
        found.append(fact)
    return found


def told(views: Views, now_ms: int) -> EventFeed:
    (digest,) = views.due(now_ms)
    assert isinstance(digest.update.data, EventFeed)
    return digest.update.data


def test_every_conflict_is_told_with_both_sides_however_many_come_at_once() -> None:
    the_event = event(capacity=1_000)
    views, _ = watched(the_event)
    late = conflicts(the_event, 2 * CONFLICTS_PER_UPDATE_MAX + 50)
    for number, fact in enumerate(late, 1):
        show(views, fact, number, the_event)
    for number in range(30):
        show(views, scan(the_event, 900 + number), 900 + number, the_event)
    updates = [told(views, NOW_MS + number * PUBLISH_INTERVAL_MS) for number in range(3)]
    assert views.due(NOW_MS + 9 * PUBLISH_INTERVAL_MS) == []
    assert [len(update.scans) for update in updates] == [CONFLICTS_PER_UPDATE_MAX + FEED_SCANS_MAX, 100, 50]
    lines = [line for update in updates for line in update.scans if line.conflict]
    assert [line.scan_id for line in lines] == [fact.request_id for fact in late]
    other = FirstSeen(NOW_MS, "gate_a", "A", "dev")
    assert {(line.conflict, line.scanned_at_ms, line.first) for line in lines} == {
        ("already_admitted", NOW_MS + 5_000, other)
    }
    assert {update.left_out for update in updates} == {0}


def test_conflicts_that_were_too_many_to_be_kept_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_sources, "CONFLICTS_WAITING_MAX", 3)
    the_event = event(capacity=50)
    views, _ = watched(the_event)
    for number, fact in enumerate(conflicts(the_event, 5), 1):
        show(views, fact, number, the_event)
    update = told(views, NOW_MS)
    assert ([line.scan_id for line in update.scans], update.left_out) == (["late1", "late2", "late3"], 2)
    show(views, scan(the_event, 9), 9, the_event)
    assert told(views, NOW_MS + PUBLISH_INTERVAL_MS).left_out == 0, "told once"


def test_a_feed_without_a_topic_keeps_only_the_last_scans() -> None:
    the_event = event(capacity=1_000)
    views = Views(7)
    late = conflicts(the_event, 30)
    for number, fact in enumerate(late, 1):
        show(views, fact, number, the_event)
    view, digest = views.event_topic(the_event).watch(NOW_MS, 30, -1, -1)
    assert digest is None
    assert isinstance(view.snapshot, EventFeed)
    assert [line.scan_id for line in view.snapshot.scans] == [fact.request_id for fact in late[-FEED_SCANS_MAX:]]
    assert views.due(NOW_MS) == []


def test_older_terms_do_not_replace_what_a_feed_began_with() -> None:
    the_event = event(name="New", capacity=9)
    the_event.position = position_of(5, 0)
    views, topic = watched(the_event)
    views.take_terms("event", EventTerms("Old", 3), position_of(4, 0))
    view, _ = topic.watch(NOW_MS, 5, -1, -1)
    assert isinstance(view.snapshot, EventFeed)
    assert (view.snapshot.name, view.snapshot.capacity) == ("New", 9)
    views.take_terms("event", EventTerms("Newer", 4, gates=(Gate("gate1", "River"),)), position_of(6, 0))
    view, _ = topic.watch(NOW_MS, 6, -1, -1)
    assert isinstance(view.snapshot, EventFeed)
    assert (view.snapshot.name, view.snapshot.capacity) == ("Newer", 4)


def test_scans_name_their_gate_as_it_is_called_now() -> None:
    the_event = event()
    views, topic = watched(the_event)
    facts = decide_check_in(tenant(), card("card1"), the_event, check_in("scan1", "card1", gate_id="gate1"), NOW_MS)
    assert isinstance(facts[0], ScanJudged)
    show(views, facts[0], 1, the_event)
    for name in ("North", "River"):
        views.take_terms("event", EventTerms("Gala", 10, gates=(Gate("gate1", name),)), position_of(9, 0))
        view, _ = topic.watch(NOW_MS, 9, -1, -1)
        assert isinstance(view.snapshot, EventFeed)
        assert view.snapshot.scans[0].gate_name == name


def posting(amount: int) -> PointsPosted:
    return PointsPosted(
        "org",
        "id",
        b"",
        NOW_MS,
        "card",
        "Ann",
        1,
        "award",
        amount,
        amount,
        "request",
        "",
        "",
        "",
        20270115,
        amount,
        amount,
        0,
    )


def test_a_board_topic_that_was_put_away_begins_above_all_its_offsets() -> None:
    views = Views(7)
    name = "leaderboard:points"
    board = Board(())
    views.add_board("org", "points/all", board, [])
    topic = views.board_topic("org", name, BoardSource(board, "points/all", "points", is_shared=False))
    topic.watch(NOW_MS, 0, -1, -1)
    views.take_points(posting(5), position_of(1, 0))
    (digest,) = views.due(NOW_MS)
    late_ms = NOW_MS + 2 * WATCHED_MS + 1
    views.drop_unwatched(late_ms, Limits(boards_resident_max=0))
    assert views.board_count == 0
    views.add_board("org", "points/all", board, [])
    again = views.board_topic("org", name, BoardSource(board, "points/all", "points", is_shared=False))
    view, _ = again.watch(late_ms, 1, 7, digest.update.offset)
    assert not view.recovered
    assert view.offset > digest.update.offset


def test_a_topic_of_the_day_moves_to_the_new_days_board() -> None:
    views = Views(7)
    name = "leaderboard:points:day"
    today, tomorrow = Board(()), Board(())
    views.add_board("org", "points/day:20270115", today, [])
    views.add_board("org", "points/day:20270116", tomorrow, [])
    topic = views.board_topic("org", name, BoardSource(today, "points/day:20270115", "points", is_shared=False))
    topic.watch(NOW_MS, 0, -1, -1)
    assert (
        views.board_topic("org", name, BoardSource(tomorrow, "points/day:20270116", "points", is_shared=False)) is topic
    )
    (digest,) = views.due(NOW_MS)
    assert digest.update.data.window == "day:20270116"  # type: ignore[union-attr]
    views.take_points(posting(5), position_of(1, 0))
    assert views.due(NOW_MS + PUBLISH_INTERVAL_MS) == [], "what happens to the old day's board is not shown any more"


def test_a_posting_reaches_the_boards_of_its_day_its_week_and_its_month() -> None:
    views = Views(7)
    keys = ("day:20270115", "week:202702", "month:202701")
    boards = {f"points/{window}": board_over(f"points/{window}", ()) for window in keys}
    keys = ("day:20270116", "week:202703", "month:202702")
    others = {f"points/{window}": board_over(f"points/{window}", ()) for window in keys}
    for key, board in (boards | others).items():
        views.add_board("org", key, board, [])
    views.take_points(posting(5), position_of(1, 0))
    for board in boards.values():
        assert [row.score for row in board.view("points", "", 9, 0, "").rows] == [5]
    assert not any(len(board) for board in others.values())


def test_feeds_over_the_limit_are_put_away_unless_somebody_watches_them() -> None:
    views = Views(1)
    events = [Event("org", f"evt_{number}", EventTerms("Gala", 10)) for number in range(3)]
    watched = views.event_topic(events[0])
    views.event_topic(events[1]).watch(NOW_MS, 0, -1, -1)
    show(views, scan(events[2], 1), 1, events[2])
    late_ms = NOW_MS + 2 * WATCHED_MS + 1
    watched.watch(late_ms, 0, -1, -1)
    views.drop_unwatched(late_ms, Limits(events_resident_max=3))
    assert views.feed_count == 3, "within the limit nothing goes"
    views.drop_unwatched(late_ms + TIDY_INTERVAL_MS, Limits(events_resident_max=2))
    assert views.feed_count == 1
    assert views.event_topic(events[0]) is watched
