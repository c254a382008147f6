"""Live topics of cards: one card's state and points, and which cards were suspended, resumed or revoked."""

from __future__ import annotations

from typing import Any

import pytest

from actors import live_sources
from actors.card_facts import CardReissued
from actors.commands import ChangeCardState
from actors.facts import CardHolderRenamed, CardStateChanged, PointsPosted
from actors.ids import position_of, seq_of
from actors.limits import Limits
from actors.live import PUBLISH_INTERVAL_MS, TIDY_INTERVAL_MS, WATCHED_MS, Topic, Views
from actors.queries import GetTopic
from actors.replies import CardChanges, CardFeed, CardMark, Failed, TopicView
from tests.core.build import NOW_MS, award, card, signed, tenant
from tests.core.drive import driven, projected_away

CARD_TOPIC = GetTopic("org", "card:card")
REVOCATIONS = GetTopic("org", "revocations")


def changed(card_id: str, state: Any = "revoked", tenant_id: str = "org") -> CardStateChanged:
    return CardStateChanged(tenant_id, "id", b"", NOW_MS, card_id, state)


def end_of(seq: int) -> int:
    """The last position in an entry."""
    return position_of(seq + 1, 0) - 1


def show(views: Views, seq: int, *facts: CardStateChanged | CardReissued) -> None:
    """An entry with these facts is durable."""
    views.durable_seq = seq
    for index, fact in enumerate(facts):
        views.take(fact, position_of(seq, index), {})


def followed(seq: int = 5) -> tuple[Views, Topic]:
    """The revocations of "org", looked at when entry `seq` was the last."""
    views = Views(7)
    views.durable_seq = seq
    topic = views.revocations_topic("org")
    view, _ = topic.watch(NOW_MS, seq, -1, -1)
    assert view.snapshot == CardChanges(end_of(seq), end_of(seq))
    return views, topic


class TestRevocations:
    def test_a_card_that_is_issued_again_is_told_with_its_serial(self) -> None:
        views, _ = followed(5)
        show(views, 6, CardReissued("org", "id", b"", NOW_MS, "a", 3, "active"), changed("b"))
        (update,) = views.due(NOW_MS)
        assert update.update.data == CardChanges(
            end_of(5), end_of(6), (CardMark("a", "active", 3), CardMark("b", "revoked"))
        )

    def test_each_update_tells_what_came_since_the_one_before(self) -> None:
        views, _ = followed(5)
        show(views, 6, changed("a"), changed("b", "suspended"))
        show(views, 7, changed("b", "active"))
        (first,) = views.due(NOW_MS)
        assert first.update.data == CardChanges(
            end_of(5), end_of(7), (CardMark("a", "revoked"), CardMark("b", "active"))
        ), "of each card the last change"
        show(views, 9, changed("c"))
        assert views.due(NOW_MS) == []
        (second,) = views.due(NOW_MS + PUBLISH_INTERVAL_MS)
        assert second.update.data == CardChanges(end_of(7), end_of(9), (CardMark("c", "revoked"),))
        assert [digest.update.offset for digest in (first, second)] == [1, 2]

    def test_who_comes_in_between_has_a_place_that_no_change_lies_before_unseen(self) -> None:
        views, topic = followed(5)
        show(views, 6, changed("a"))
        view, digest = topic.watch(NOW_MS, 6, -1, -1)
        assert digest is not None
        assert view.snapshot == CardChanges(end_of(6), end_of(6))
        show(views, 8, changed("b"))
        (second,) = views.due(NOW_MS + PUBLISH_INTERVAL_MS)
        assert isinstance(second.update.data, CardChanges)
        assert second.update.data.since == end_of(6)

    def test_another_tenants_cards_are_not_among_them(self) -> None:
        views, _ = followed()
        show(views, 6, changed("a", tenant_id="other"))
        assert views.due(NOW_MS) == []

    def test_many_changes_come_in_several_updates_without_a_hole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_sources, "CHANGES_PER_UPDATE_MAX", 3)
        views, _ = followed(5)
        show(views, 6, *(changed(name) for name in "abcdefg"))
        show(views, 7, changed("a", "active"))
        updates: list[CardChanges] = []
        for number in range(4):
            for digest in views.due(NOW_MS + number * PUBLISH_INTERVAL_MS):
                assert isinstance(digest.update.data, CardChanges)
                updates.append(digest.update.data)
        told = ["".join(mark.card_id for mark in update.changes) for update in updates]
        assert told == ["bcd", "efg", "a"]
        assert [update.since for update in updates] == [end_of(5), *(update.position for update in updates[:-1])]
        assert [update.position for update in updates] == [position_of(6, 3), position_of(6, 6), end_of(7)]

    def test_what_no_longer_fits_sends_whoever_follows_to_postgres(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_sources, "CHANGES_WAITING_MAX", 3)
        views, _ = followed(5)
        for seq, name in enumerate("abc", 6):
            show(views, seq, changed(name))
        show(views, 9, changed("a", "active"))
        show(views, 10, changed("d"))
        (digest,) = views.due(NOW_MS)
        assert digest.update.data == CardChanges(position_of(9, 0), end_of(10), (CardMark("d", "revoked"),))

    def test_what_happened_while_nobody_looked_is_told_at_the_next_look(self) -> None:
        views, topic = followed(5)
        late_ms = NOW_MS + WATCHED_MS + 1
        show(views, 6, changed("a"))
        assert views.due(late_ms) == []
        view, _ = topic.watch(late_ms, 6, 7, 0)
        assert [update.data for update in view.missed] == [
            CardChanges(end_of(5), end_of(6), (CardMark("a", "revoked"),))
        ]

    def test_nobody_takes_up_at_a_topic_that_was_put_away(self) -> None:
        views, _ = followed(5)
        show(views, 6, changed("a"))
        (digest,) = views.due(NOW_MS)
        late_ms = NOW_MS + 2 * WATCHED_MS + 1
        views.drop_unwatched(late_ms, Limits())
        assert views.topic_count == 0
        show(views, 7, changed("b"))
        view, _ = views.revocations_topic("org").watch(late_ms, 7, 7, digest.update.offset)
        assert view.snapshot == CardChanges(end_of(7), end_of(7))
        assert view.offset > digest.update.offset


class TestCard:
    def posting(self, amount: int, entry_seq: int = 1) -> PointsPosted:
        entry = (entry_seq, "award", amount, amount, "request", "", "", "", 20270115, amount, amount, 0)
        return PointsPosted("org", "id", b"", NOW_MS, "card", "Ann", *entry)  # type: ignore[arg-type]

    def test_state_and_points_are_shown_as_they_become_durable(self) -> None:
        views = Views(7)
        topic = views.card_topic(card())
        view, _ = topic.watch(NOW_MS, 0, -1, -1)
        assert view.snapshot == CardFeed("card", "member", "Ann", "gold", "active", 0, 0, 0, 0)
        views.durable_seq = 2
        views.take(self.posting(70), position_of(1, 0), {})
        views.take(changed("card", "suspended"), position_of(2, 0), {})
        views.take(changed("other"), position_of(2, 1), {})
        views.take(CardHolderRenamed("org", "id", b"", NOW_MS, "card", "Lan"), position_of(2, 2), {})
        (digest,) = views.due(NOW_MS)
        expected = CardFeed("card", "member", "Lan", "gold", "suspended", 70, 70, 1, position_of(2, 2))
        assert digest.update.data == expected

    def test_a_card_that_is_ahead_of_the_journal_waits_for_it(self) -> None:
        views = Views(7)
        topic = views.card_topic(card(balance=70, entry_count=1, position=position_of(4, 0)))
        topic.watch(NOW_MS, 3, -1, -1)
        views.durable_seq = 3
        views.take(changed("card", "suspended"), position_of(3, 0), {})
        assert views.due(NOW_MS) == []
        views.durable_seq = 4
        views.take(self.posting(70), position_of(4, 0), {})
        (digest,) = views.due(NOW_MS)
        assert isinstance(digest.update.data, CardFeed)
        assert (digest.update.data.state, digest.update.data.balance) == ("active", 70), "what it began with is newer"

    def test_topics_that_did_not_change_cost_nothing(self) -> None:
        views = Views(7)
        for number in range(1_000):
            views.card_topic(card(f"card{number}")).watch(NOW_MS, 0, -1, -1)
        views.durable_seq = 1
        views.take(changed("card7"), position_of(1, 0), {})
        assert len(views._dirty) == 1
        assert [digest.topic for digest in views.due(NOW_MS)] == ["card:card7"]
        assert not views._dirty

    def test_one_that_nobody_looks_at_is_not_asked_until_somebody_does(self) -> None:
        views = Views(7)
        topic = views.card_topic(card(position=position_of(4, 0)))
        topic.watch(NOW_MS, 3, -1, -1)
        views.durable_seq = 3
        views.take(changed("card", "suspended"), position_of(3, 0), {})
        late_ms = NOW_MS + WATCHED_MS + 1
        assert views.due(late_ms) == []
        assert not views._dirty
        topic.watch(late_ms, 3, -1, -1)
        assert views.due(late_ms) == [], "it is still ahead of the journal"
        views.durable_seq = 4
        assert len(views.due(late_ms)) == 1

    def test_it_is_put_away_when_nobody_looks(self) -> None:
        views = Views(7)
        views.card_topic(card()).watch(NOW_MS, 0, -1, -1)
        views.take(changed("card"), position_of(1, 0), {})
        gone_ms = NOW_MS + 2 * WATCHED_MS + 1
        views.drop_unwatched(gone_ms - 1, Limits())
        views.drop_unwatched(gone_ms, Limits())
        assert views.topic_count == 1, "topics are looked through now and then only"
        views.drop_unwatched(gone_ms + TIDY_INTERVAL_MS, Limits())
        assert (views.topic_count, len(views._dirty)) == (0, 0)
        views.card_topic(card()).watch(gone_ms, 1, -1, -1)
        views.durable_seq = 2
        views.take(changed("card"), position_of(2, 0), {})
        assert len(views.due(gone_ms)) == 1


class TestThroughAPartition:
    def test_a_revocation_is_published_once_it_is_durable(self) -> None:
        drive = driven()
        drive.send(("look", REVOCATIONS), ("card", CARD_TOPIC))
        assert isinstance(drive.reply("look").snapshot, CardChanges)
        drive.send(("revoke", signed(ChangeCardState("org", "revoke", b"", "card", "revoked"))))
        drive.tick(PUBLISH_INTERVAL_MS)
        assert drive.published == []
        drive.appended()
        drive.tick(PUBLISH_INTERVAL_MS)
        by_topic = {digest.topic: digest.update.data for digest in drive.published}
        assert by_topic["revocations"].changes == (CardMark("card", "revoked"),)
        assert seq_of(by_topic["revocations"].position) == drive.partition.durable.seq
        assert by_topic["card:card"].state == "revoked"

    def test_a_card_that_is_not_in_memory_is_loaded_and_one_that_is_not_there_is_said_so(self) -> None:
        drive = projected_away()
        drive.send(("card", CARD_TOPIC))
        drive.loaded(tenants={"org": tenant()})
        assert drive.loads[-1].request.cards == (("org", "card"),)
        drive.loaded(cards={("org", "card"): card(balance=5)})
        view = drive.reply("card")
        assert isinstance(view, TopicView)
        assert view.snapshot is not None
        drive.send(("none", GetTopic("org", "card:none")))
        drive.loaded()
        assert drive.reply("none") == Failed("card_unknown", "no such card")

    def test_another_tenants_card_is_as_absent_as_one_that_never_was(self) -> None:
        drive = driven()
        drive.send(("award", award(5)))
        drive.appended()
        drive.send(("card", GetTopic("other", "card:card")))
        drive.loaded(tenants={})
        assert drive.reply("card").code == "tenant_unknown"
